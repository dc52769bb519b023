//! An event in the plugin's form: the same that `domain/event.py` and `domain/event_data.py` accept,
//! and only those of them whose rows are known without a second look.

use serde::Deserialize;

const LONGEST_MESSAGE: usize = 512 * 1024;
const LONGEST_TEXT: usize = 256;
const LONGEST_NUMBER: usize = 20;
const LONGEST_DATA: usize = 64 * 1024;
/// An integer of at most 18 digits is a token count; a longer one is kept as text, by Python.
const LARGEST_COUNT: i64 = 999_999_999_999_999_999;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub struct Usage<'a> {
    pub tokens: Option<i64>,
    pub r#type: Option<&'a str>,
    pub usage_source: Option<&'a str>,
    pub waived_tokens: Option<i64>,
    pub provider: Option<&'a str>,
    pub model: Option<&'a str>,
    request_model: Option<&'a str>,
    consumer_id: Option<&'a str>,
    credential_id: Option<&'a str>,
    service: Option<&'a str>,
    route: Option<&'a str>,
    workspace: Option<&'a str>,
    status_code: Option<i64>,
    stream: Option<bool>,
    outcome: Option<&'a str>,
    latency_ms: Option<i64>,
    llm_latency_ms: Option<i64>,
    task: Option<&'a str>,
    feature: Option<&'a str>,
}

pub struct Event<'a> {
    pub id: &'a str,
    pub source: &'a str,
    pub r#type: &'a str,
    pub subject: &'a str,
    pub microseconds: i64,
    pub nodeid: &'a str,
    pub sequence: &'a str,
    pub data: &'a str,
    pub usage: Usage<'a>,
}

/// The event, if it is one in the plugin's form: its attributes in the order of the plugin's spool, no
/// space between them.
pub fn read(message: &[u8]) -> Option<Event<'_>> {
    // Without an escape every name and text stands there as it is; a control character is no JSON.
    let is_bare = message.iter().fold(true, |so_far, byte| {
        so_far & (*byte >= b' ') & (*byte != b'\\')
    });
    if !is_bare || message.len() > LONGEST_MESSAGE {
        return None;
    }
    let mut left = std::str::from_utf8(message).ok()?;
    let nodeid = text(r#"{"nodeid":""#, &mut left)?;
    let sequence = text(r#","sequence":""#, &mut left)?;
    let id = text(r#","specversion":"1.0","id":""#, &mut left)?;
    let source = text(r#","source":""#, &mut left)?;
    let r#type = text(r#","type":""#, &mut left)?;
    let subject = text(r#","subject":""#, &mut left)?;
    let time = text(r#","time":""#, &mut left)?;
    left = left
        .strip_prefix(r#","datacontenttype":"application/json""#)
        .unwrap_or(left);
    let data = left.strip_prefix(r#","data":"#)?.strip_suffix('}')?;
    // Serde would take an array too, its values in the fields' order, and a space behind.
    let is_object = data.starts_with('{') && data.ends_with('}');
    if !is_object || data.len() > LONGEST_DATA {
        return None;
    }
    let usage: Usage = serde_json::from_str(data).ok()?;
    let is_plain = [nodeid, id, source, r#type, subject]
        .iter()
        .all(|text| (1..=LONGEST_TEXT).contains(&text.len()))
        && (1..=LONGEST_NUMBER).contains(&sequence.len())
        && sequence.bytes().all(|byte| byte.is_ascii_digit())
        && [usage.tokens, usage.waived_tokens]
            .iter()
            .flatten()
            .all(|count| (-LARGEST_COUNT..=LARGEST_COUNT).contains(count));
    if !is_plain {
        return None;
    }
    let microseconds = microseconds(time)?;
    Some(Event {
        id,
        source,
        r#type,
        subject,
        microseconds,
        nodeid,
        sequence,
        data,
        usage,
    })
}

/// The text that begins behind `before`, up to its quote; what is left begins behind that.
fn text<'a>(before: &str, left: &mut &'a str) -> Option<&'a str> {
    let (text, behind) = left.strip_prefix(before)?.split_once('"')?;
    *left = behind;
    Some(text)
}

/// A time as the plugin writes it, `2026-11-01T00:00:00.000Z`, from 1970 to 2199.
fn microseconds(time: &str) -> Option<i64> {
    let text: &[u8; 24] = time.as_bytes().try_into().ok()?;
    let has = |at: usize, what: u8| text[at] == what;
    if !(has(4, b'-')
        && has(7, b'-')
        && has(10, b'T')
        && has(13, b':')
        && has(16, b':')
        && has(19, b'.')
        && has(23, b'Z'))
    {
        return None;
    }
    let number = |from: usize, to: usize| {
        text[from..to].iter().try_fold(0i64, |sum, byte| {
            byte.is_ascii_digit()
                .then(|| sum * 10 + i64::from(byte - b'0'))
        })
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let is_moment = (1970..2200).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_of(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !is_moment {
        return None;
    }
    let seconds = ((days_before(year, month) + day - 1) * 24 + hour) * 3600 + minute * 60 + second;
    Some(seconds * 1_000_000 + number(20, 23)? * 1000)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The days from 1970 until the month begins.
fn days_before(year: i64, month: i64) -> i64 {
    let before = year - 1;
    let leap_days = |year: i64| year / 4 - year / 100 + year / 400;
    let years = (year - 1970) * 365 + leap_days(before) - leap_days(1969);
    years + (1..month).map(|month| days_of(year, month)).sum::<i64>()
}
