//! An event as a row of `incoming_read` and of `seen`, in ClickHouse's RowBinary.
//!
//! The columns and their order are those of `READ_COLUMNS` in `store/event_schema.py`.

use crate::event::Event;
use sha2::{Digest, Sha256};

/// Another one for another layout of either row: `store/event_block.py` takes only its own.
pub const FORMAT: u32 = 1;
pub const SEEN_BYTES: usize = 40;
const MINUTE_US: i64 = 60_000_000;
const LAST_MINUTE: i64 = (u32::MAX as i64) / 60 * 60;
const LATEST_MS: i64 = 7_258_118_400_000; // 2200

pub struct Arrival<'a> {
    pub namespace: &'a str,
    pub door: &'a str,
    pub place: u64,
    pub milliseconds: i64,
}

impl Arrival<'_> {
    pub fn is_storable(&self) -> bool {
        (0..LATEST_MS).contains(&self.milliseconds)
    }
}

pub fn write(event: &Event, arrival: &Arrival, rows: &mut Vec<u8>) {
    let usage = &event.usage;
    text(arrival.namespace, rows);
    text(event.r#type, rows);
    text(event.subject, rows);
    rows.extend(event.microseconds.to_le_bytes());
    text(event.source, rows);
    text(event.id, rows);
    text(event.data, rows);
    text(event.nodeid, rows);
    text(event.sequence, rows);
    rows.extend(arrival.milliseconds.to_le_bytes());
    text(arrival.door, rows);
    rows.extend(arrival.place.to_le_bytes());
    match usage.tokens {
        Some(tokens) => {
            rows.push(0);
            rows.extend(tokens.to_le_bytes());
        }
        None => rows.push(1),
    }
    text(usage.r#type.unwrap_or_default(), rows);
    text(usage.model.unwrap_or_default(), rows);
    text(usage.provider.unwrap_or_default(), rows);
    text(usage.usage_source.unwrap_or_default(), rows);
    rows.extend(usage.waived_tokens.unwrap_or_default().to_le_bytes());
}

/// What is remembered of it: see `store/seen.py`.
pub fn remember(event: &Event, namespace: &str, seen: &mut Vec<u8>) {
    let minute = (event.microseconds / MINUTE_US * 60).min(LAST_MINUTE) as u32;
    let identity = Sha256::new()
        .chain_update(format!("{}:{}:", namespace.len(), event.source.len()))
        .chain_update(namespace)
        .chain_update(event.source)
        .chain_update(event.id)
        .finalize();
    let mut data = crc32fast::Hasher::new();
    data.update(b"\0"); // behind the schema, which it has not
    data.update(event.data.as_bytes());
    seen.extend(minute.to_le_bytes());
    seen.extend(&identity[..16]);
    seen.extend(event.microseconds.to_le_bytes());
    seen.extend(crc32fast::hash(event.r#type.as_bytes()).to_le_bytes());
    seen.extend(crc32fast::hash(event.subject.as_bytes()).to_le_bytes());
    seen.extend(data.finalize().to_le_bytes());
}

fn text(text: &str, rows: &mut Vec<u8>) {
    let mut length = text.len();
    while length >= 0x80 {
        rows.push(length as u8 | 0x80);
        length >>= 7;
    }
    rows.push(length as u8);
    rows.extend_from_slice(text.as_bytes());
}
