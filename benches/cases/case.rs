//! A case: what is run again and again, and how to get there.

/// Something that is measured.
pub(crate) struct Case {
    pub(crate) group: &'static str,
    pub(crate) name: &'static str,
    /// How many operations one run is.
    pub(crate) operations: u64,
    /// Gets to where a run can begin.
    pub(crate) prepare: fn() -> Box<dyn Subject>,
}

/// What a case runs, again and again.
pub(crate) trait Subject {
    /// Does the case's operations.
    fn run(&mut self);

    /// Puts back what the run changed; nobody measures that.
    fn restore(&mut self) {}
}

impl<F: FnMut()> Subject for F {
    fn run(&mut self) {
        self();
    }
}
