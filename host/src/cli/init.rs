//! `lacuna init`.
use anyhow::Result;
use clap::Args;
#[derive(Args)]
pub struct InitArgs {}
pub fn init(_: &InitArgs) -> Result<u8> {
    Ok(0)
}
