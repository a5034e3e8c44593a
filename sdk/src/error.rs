//! Errors of plugin code.

use lacuna_abi::{ErrorKind, PluginError};

/// What went wrong. Any [`std::error::Error`] turns into [`Error::Failed`] with its chain of sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The host asked to stop; comes from [`Context::check`](crate::Context::check).
    Cancelled,
    /// The parameters do not fit together.
    Parameters(String),
    /// The data handed over do not fit the component.
    Data(String),
    /// Anything else.
    Failed(String),
}

impl Error {
    /// An error about parameters: what was expected, what was found.
    pub fn parameters(message: impl Into<String>) -> Self {
        Self::Parameters(message.into())
    }

    /// An error about the data: which cell or gene, what was expected, what was found.
    pub fn data(message: impl Into<String>) -> Self {
        Self::Data(message.into())
    }

    /// Any other error.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }
}

impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message += &format!(": {cause}");
            source = cause.source();
        }
        Self::Failed(message)
    }
}

impl From<Error> for PluginError {
    fn from(error: Error) -> Self {
        match error {
            Error::Cancelled => PluginError::new(ErrorKind::CANCELLED, "cancelled"),
            Error::Parameters(message) => PluginError::new(ErrorKind::PARAMETERS, message),
            Error::Data(message) => PluginError::new(ErrorKind::DATA, message),
            Error::Failed(message) => PluginError::new(ErrorKind::FAILED, message),
        }
    }
}

/// The result of plugin code.
pub type Result<T, E = Error> = std::result::Result<T, E>;
