//! Reads the events that the plugin sends into rows of ClickHouse, a batch at a time.
//!
//! It takes only what is in the plugin's own form, whole and without an escape; whatever else comes
//! is left to Python, which alone decides what is an event and says what is wrong with the others.

mod event;
mod row;

use std::panic::{catch_unwind, AssertUnwindSafe};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyBytes, PyString};

/// What is in a batch, the lists of one length: what came, by which door, as the how-manieth there, and
/// when, in milliseconds since 1970.
struct Batch {
    namespace: PyBackedStr,
    messages: Vec<PyBackedBytes>,
    doors: Vec<PyBackedStr>,
    places: Vec<u64>,
    moments: Vec<i64>,
}

/// What was read of it: the positions in the batch, the ids, the rows one behind the other, where each of
/// them ends, and the rows of `seen`.
struct Block<'a> {
    positions: Vec<usize>,
    ids: Vec<&'a str>,
    rows: Vec<u8>,
    ends: Vec<usize>,
    seen: Vec<u8>,
}

type Answer<'py> = (
    Vec<usize>,
    Vec<Bound<'py, PyString>>,
    Bound<'py, PyBytes>,
    Vec<usize>,
    Bound<'py, PyBytes>,
);

fn read_all(batch: &Batch) -> Block<'_> {
    let count = batch.messages.len();
    let size = batch.messages.iter().map(|message| message.len()).sum();
    let mut block = Block {
        positions: Vec::with_capacity(count),
        ids: Vec::with_capacity(count),
        rows: Vec::with_capacity(size),
        ends: Vec::with_capacity(count),
        seen: Vec::with_capacity(count * row::SEEN_BYTES),
    };
    let arrivals = batch.doors.iter().zip(&batch.places).zip(&batch.moments);
    for (position, (message, ((door, place), moment))) in
        batch.messages.iter().zip(arrivals).enumerate()
    {
        let arrival = row::Arrival {
            namespace: &batch.namespace,
            door,
            place: *place,
            milliseconds: *moment,
        };
        let Some(event) = event::read(message) else {
            continue;
        };
        if !arrival.is_storable() {
            continue;
        }
        row::write(&event, &arrival, &mut block.rows);
        row::remember(&event, &batch.namespace, &mut block.seen);
        block.positions.push(position);
        block.ids.push(event.id);
        block.ends.push(block.rows.len());
    }
    block
}

/// Reads the messages that are events in the plugin's form; the others are not among the positions.
///
/// Other threads run meanwhile. A bug of ours is a RuntimeError: whoever asks reads without us then.
#[pyfunction]
fn read<'py>(
    py: Python<'py>,
    namespace: PyBackedStr,
    messages: Vec<PyBackedBytes>,
    doors: Vec<PyBackedStr>,
    places: Vec<u64>,
    moments: Vec<i64>,
) -> PyResult<Answer<'py>> {
    let batch = Batch {
        namespace,
        messages,
        doors,
        places,
        moments,
    };
    let block = catch_unwind(AssertUnwindSafe(|| py.detach(|| read_all(&batch))))
        .map_err(|_| PyRuntimeError::new_err("the event reader has failed"))?;
    let ids = block.ids.iter().map(|id| PyString::new(py, id)).collect();
    Ok((
        block.positions,
        ids,
        PyBytes::new(py, &block.rows),
        block.ends,
        PyBytes::new(py, &block.seen),
    ))
}

#[pymodule]
fn event_reader(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("FORMAT", row::FORMAT)?;
    module.add_function(wrap_pyfunction!(read, module)?)
}
