//! The extension module `trimaran._core`: a list of exports and the error table, nothing else.

use std::time::Duration;

use dataplane::databases::plan::Question;
use dataplane::error::Error;
use dataplane::plane;
use pyo3::create_exception;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

create_exception!(trimaran, SnapshotError, PyValueError, "The snapshot is malformed; the message names the key.");
create_exception!(trimaran, BindError, PyOSError, "A listener cannot be bound; the message names the address and why.");

/// The error table: every error of the data plane and its Python name.
fn raise(error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::Snapshot(_) => SnapshotError::new_err(text),
        Error::Bind { source, .. } => BindError::new_err((source.raw_os_error().unwrap_or(0), text)),
        Error::AccessLog { source, .. } => PyOSError::new_err((source.raw_os_error().unwrap_or(0), text)),
        Error::Runtime(_) => PyOSError::new_err(text),
    }
}

/// Listeners, queues, balancing, health checks and forwarding, on threads of their own without the GIL.
#[pyclass(module = "trimaran._core", frozen)]
struct DataPlane(plane::DataPlane);

#[pymethods]
impl DataPlane {
    #[new]
    #[pyo3(signature = (snapshot, accept = true))]
    fn new(snapshot: &str, accept: bool) -> PyResult<Self> {
        let plane = plane::DataPlane::start(snapshot).map_err(raise)?;
        if accept {
            plane.accept().map_err(raise)?;
        }
        Ok(Self(plane))
    }

    fn accept(&self) -> PyResult<()> {
        self.0.accept().map_err(raise)
    }

    fn apply(&self, py: Python<'_>, snapshot: &str) -> PyResult<()> {
        py.detach(|| self.0.apply(snapshot)).map_err(raise)
    }

    fn addresses(&self) -> Vec<String> {
        self.0.addresses().to_vec()
    }

    fn facts(&self, py: Python<'_>) -> String {
        py.detach(|| self.0.facts())
    }

    fn events(&self, py: Python<'_>, wait_ms: u64) -> Vec<String> {
        py.detach(|| self.0.events(Duration::from_millis(wait_ms)))
    }

    fn plans(&self, py: Python<'_>, database: &str) -> Option<String> {
        py.detach(|| self.0.plans(database))
    }

    fn plans_wanted(&self, py: Python<'_>, timeout_ms: u64) -> Vec<(u64, String, String, String, u64)> {
        let questions = py.detach(|| self.0.plans_wanted(Duration::from_millis(timeout_ms)));
        let flat = |question: Question| {
            let Question { id, text, place, version } = question;
            (id, text, place.group.clone(), place.database.clone(), version)
        };
        questions.into_iter().map(flat).collect()
    }

    fn databases_in_use(&self) -> Vec<(String, String, u64)> {
        self.0.databases_in_use()
    }

    fn catalogue_changed(&self, group: &str, database: &str) {
        self.0.catalogue_changed(group, database);
    }

    fn planned(&self, id: u64, plan: &str) -> PyResult<()> {
        self.0.planned(id, plan).map_err(raise)
    }

    fn stop_planning(&self) {
        self.0.stop_planning();
    }

    fn stop_accepting(&self) {
        self.0.stop_accepting();
    }

    fn stop(&self, py: Python<'_>, grace_ms: u64) -> bool {
        py.detach(|| self.0.stop(Duration::from_millis(grace_ms)))
    }
}

#[pymodule]
mod _core {
    #[pymodule_export]
    use super::{BindError, DataPlane, SnapshotError};
}
