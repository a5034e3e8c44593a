//! Errors as they cross the border.

use abi_stable::{
    StableAbi,
    std_types::{RResult, RString},
};

/// What kind of error a plugin reports. A newtype, so that a code from a newer plugin is only an unknown number.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, PartialEq, Eq, Debug)]
pub struct ErrorKind(pub u32);

impl ErrorKind {
    /// The work could not be done.
    pub const FAILED: Self = Self(0);
    /// The parameters are wrong.
    pub const PARAMETERS: Self = Self(1);
    /// The host asked to stop.
    pub const CANCELLED: Self = Self(2);
    /// The plugin panicked; `detail` holds the place.
    pub const PANIC: Self = Self(3);
    /// The plugin has no component of that name.
    pub const UNKNOWN_COMPONENT: Self = Self(4);
    /// The data handed over do not fit the component.
    pub const DATA: Self = Self(5);
    /// The plugin's worker process has died.
    pub const CRASHED: Self = Self(6);
    /// The plugin's worker process gave no sign of life, and was ended.
    pub const TIMED_OUT: Self = Self(7);
}

/// An error from a plugin.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct PluginError {
    /// What kind of error.
    pub kind: ErrorKind,
    /// One sentence for the user.
    pub message: RString,
    /// More for the plugin's author: the place of a panic, a backtrace. May be empty.
    pub detail: RString,
}

impl PluginError {
    /// An error without detail.
    pub fn new(kind: ErrorKind, message: impl Into<RString>) -> Self {
        Self { kind, message: message.into(), detail: RString::new() }
    }
}

/// The result of a call across the border.
pub type PResult<T> = RResult<T, PluginError>;
