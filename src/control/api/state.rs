//! The state that all handlers of the control API share.

use std::{sync::Arc, time::Instant};

use axum::extract::State;
use tokio::sync::{Semaphore, watch};

use crate::{
    control::{cookie::Cookie, figures::ControlFigures, node::NodeInfo, phase::Phase, request::Control},
    metrics::Board,
};

/// What handlers work with.
pub(in crate::control) struct Api {
    pub(in crate::control) control: Control,
    pub(in crate::control) cookie: Cookie,
    pub(in crate::control) node: NodeInfo,
    /// Bounds hashing of secrets, together with their verification.
    pub(in crate::control) hashers: Arc<Semaphore>,
    pub(in crate::control) board: Arc<Board>,
    pub(in crate::control) figures: Arc<ControlFigures>,
    pub(in crate::control) phase: watch::Receiver<Phase>,
    pub(in crate::control) started: Instant,
}

/// As a handler takes it.
pub(super) type Shared = State<Arc<Api>>;
