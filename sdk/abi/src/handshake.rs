//! What the host reads from a plugin file before it runs any of its code.

/// Name of the exported static [`PluginMagic`].
pub const MAGIC_SYMBOL: &str = "LACUNA_PLUGIN_MAGIC";
/// Name of the exported root header.
pub const ROOT_SYMBOL: &str = "LACUNA_PLUGIN_ROOT";
/// First bytes of [`PluginMagic`].
pub const MAGIC: [u8; 8] = *b"LACUNA\0\x01";

/// Border version: another one does not fit. It was 0 while the border could still change.
pub const ABI_MAJOR: u16 = 1;
/// Counts additions, which break nothing.
pub const ABI_MINOR: u16 = 2;
/// Nothing that matters to a library.
pub const ABI_PATCH: u16 = 0;

/// Set when the plugin was built with `panic = "unwind"`, so that its panics come back as errors.
pub const FLAG_UNWIND: u32 = 1;
/// Set when the plugin was built with debug assertions (slow).
pub const FLAG_DEBUG: u32 = 2;

/// The exported static by which a file says that it is a plugin. Its bytes are read from the file as data.
#[repr(C)]
pub struct PluginMagic {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// Size of this struct, so that it can grow.
    pub struct_size: u32,
    /// [`ABI_MAJOR`] of the SDK that the plugin was built with.
    pub abi_major: u16,
    /// [`ABI_MINOR`] of that SDK.
    pub abi_minor: u16,
    /// [`ABI_PATCH`] of that SDK.
    pub abi_patch: u16,
    /// Zero.
    pub reserved: u16,
    /// [`FLAG_UNWIND`], [`FLAG_DEBUG`].
    pub flags: u32,
    /// The SDK's version, as text, padded with zeros.
    pub sdk_version: [u8; 32],
}

impl PluginMagic {
    /// The handshake of a plugin built by the SDK of this version, with these flags.
    pub const fn new(sdk_version: &str, flags: u32) -> Self {
        Self {
            magic: MAGIC,
            struct_size: size_of::<Self>() as u32,
            abi_major: ABI_MAJOR,
            abi_minor: ABI_MINOR,
            abi_patch: ABI_PATCH,
            reserved: 0,
            flags,
            sdk_version: padded(sdk_version),
        }
    }
}

const fn padded(text: &str) -> [u8; 32] {
    let (bytes, mut out, mut i) = (text.as_bytes(), [0u8; 32], 0);
    while i < bytes.len() && i < 31 {
        out[i] = bytes[i];
        i += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crate_has_the_borders_version() {
        let border = format!("{ABI_MAJOR}.{ABI_MINOR}.{ABI_PATCH}");
        assert_eq!(border, env!("CARGO_PKG_VERSION"), "abi_stable compares the crate's");
    }
}
