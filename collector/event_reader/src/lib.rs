//! Reads the events that the plugin sends into rows of ClickHouse, a batch at a time.
//!
//! It takes only what is in the plugin's own form, whole and without an escape; whatever else comes
//! is left to Python, which alone decides what is an event and says what is wrong with the others.

mod event;
mod row;

use std::panic::catch_unwind;

use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyBytes, PyString};

/// What was read: the positions in the batch, the ids, the rows one behind the other, where each of them
/// ends, and the rows of `seen`.
type Read<'py> = (
    Vec<usize>,
    Vec<Bound<'py, PyString>>,
    Bound<'py, PyBytes>,
    Vec<usize>,
    Bound<'py, PyBytes>,
);

/// Reads the messages that are events in the plugin's form; the others are not among the positions.
///
/// The lists are of one length: what came, by which door, as the how-manieth there, and when, in
/// milliseconds since 1970. Other threads run meanwhile.
#[pyfunction]
fn read<'py>(
    py: Python<'py>,
    namespace: PyBackedStr,
    messages: Vec<PyBackedBytes>,
    doors: Vec<PyBackedStr>,
    places: Vec<u64>,
    moments: Vec<i64>,
) -> PyResult<Read<'py>> {
    let (positions, ids, rows, ends, seen) = py.detach(|| {
        let size = messages.iter().map(|message| message.len()).sum::<usize>();
        let mut positions = Vec::with_capacity(messages.len());
        let mut ids = Vec::with_capacity(messages.len());
        let mut rows = Vec::with_capacity(size + messages.len() * row::ROOM);
        let mut ends = Vec::with_capacity(messages.len());
        let mut seen = Vec::with_capacity(messages.len() * row::SEEN_BYTES);
        let arrivals = doors.iter().zip(&places).zip(&moments);
        for (position, (message, ((door, place), moment))) in
            messages.iter().zip(arrivals).enumerate()
        {
            let message: &[u8] = message;
            // A bug of ours, should there be one, is Python's to name: it reads what is left out here.
            let Ok(Some(event)) = catch_unwind(|| event::read(message)) else {
                continue;
            };
            let arrival = row::Arrival {
                namespace: &namespace,
                door,
                place: *place,
                milliseconds: *moment,
            };
            if !arrival.is_storable() {
                continue;
            }
            row::write(&event, &arrival, &mut rows);
            row::remember(&event, &namespace, &mut seen);
            positions.push(position);
            ids.push(event.id);
            ends.push(rows.len());
        }
        (positions, ids, rows, ends, seen)
    });
    let ids = ids.into_iter().map(|id| PyString::new(py, id)).collect();
    Ok((
        positions,
        ids,
        PyBytes::new(py, &rows),
        ends,
        PyBytes::new(py, &seen),
    ))
}

#[pymodule]
fn event_reader(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(read, module)?)
}
