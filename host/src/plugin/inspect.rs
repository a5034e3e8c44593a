//! The first gate: the file is parsed as data. Nothing is mapped executable, no constructor runs.

use lacuna_abi::{
    ABI_MAJOR, ABI_MINOR, ABI_PATCH, FLAG_UNWIND, MAGIC, MAGIC_SYMBOL, PluginMagic, ROOT_SYMBOL,
};
use object::{Architecture, BinaryFormat, FileKind, Object, ObjectSection, ObjectSegment, ObjectSymbol};
use std::path::Path;

/// What the file says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// The border version it was built for.
    pub abi: [u16; 3],
    /// The SDK it was built with.
    pub sdk: String,
}

/// Why a file is no plugin for this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It is none of ours: not a library, or one without our symbol.
    NotAPlugin(String),
    /// It is, or was meant to be, a plugin, but cannot be used.
    Unusable(String),
}

impl Refusal {
    /// The reason, as the end of a sentence about the file.
    pub fn reason(self) -> String {
        match self {
            Self::NotAPlugin(reason) | Self::Unusable(reason) => reason,
        }
    }
}

/// Reads the handshake out of a file's bytes.
pub fn inspect(path: &Path, bytes: &[u8]) -> Result<Handshake, Refusal> {
    if bytes.is_empty() {
        return Err(Refusal::NotAPlugin("it is empty".into()));
    }
    let file = object::File::parse(bytes).map_err(|e| unreadable(bytes, e))?;
    check_platform(&file)?;
    check_complete(&file, bytes.len() as u64)?;
    if !defines(&file, MAGIC_SYMBOL) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        return Err(Refusal::NotAPlugin(format!(
            "it is a library, but not a Lacuna plugin: {name} has no symbol {MAGIC_SYMBOL} (was `plugin!` called?)"
        )));
    }
    let handshake = handshake(&file).map_err(Refusal::Unusable)?;
    if !defines(&file, ROOT_SYMBOL) {
        return Err(Refusal::Unusable(format!("it has no symbol {ROOT_SYMBOL}")));
    }
    Ok(handshake)
}

/// A library that cannot be parsed was cut off or damaged: that is said wherever it lies.
fn unreadable(bytes: &[u8], e: object::Error) -> Refusal {
    use FileKind::{Elf32, Elf64, MachO32, MachO64, Pe32, Pe64};
    match FileKind::parse(bytes) {
        Ok(Elf32 | Elf64 | MachO32 | MachO64 | Pe32 | Pe64) => {
            Refusal::Unusable(format!("it is cut off or damaged ({e})"))
        }
        _ => Refusal::NotAPlugin(format!("it is not a shared library ({e})")),
    }
}

fn check_platform(file: &object::File<'_>) -> Result<(), Refusal> {
    let native = match std::env::consts::ARCH {
        "x86_64" => Architecture::X86_64,
        "aarch64" => Architecture::Aarch64,
        _ => file.architecture(),
    };
    if file.architecture() != native {
        let (theirs, ours) = (format!("{:?}", file.architecture()), format!("{native:?}"));
        return Err(Refusal::Unusable(format!(
            "it was built for another CPU ({}); this machine is {}: build it here",
            theirs.to_lowercase(),
            ours.to_lowercase()
        )));
    }
    let format = match std::env::consts::OS {
        "macos" => BinaryFormat::MachO,
        "windows" => BinaryFormat::Pe,
        _ => BinaryFormat::Elf,
    };
    if file.format() != format {
        return Err(Refusal::Unusable(format!("it was built for another system ({:?} file)", file.format())));
    }
    Ok(())
}

fn check_complete(file: &object::File<'_>, len: u64) -> Result<(), Refusal> {
    let segment_end = |s: object::Segment<'_, '_>| {
        let (offset, size) = s.file_range();
        offset.saturating_add(size)
    };
    let section_end =
        |s: object::Section<'_, '_>| s.file_range().map_or(0, |(offset, size)| offset.saturating_add(size));
    let end = file.segments().map(segment_end).chain(file.sections().map(section_end)).max().unwrap_or(0);
    if end > len {
        return Err(Refusal::Unusable(format!("it is cut off or damaged: {len} bytes of at least {end}")));
    }
    if !super::segments::fit(file) {
        return Err(Refusal::Unusable("it is damaged: its segments and sections do not fit together".into()));
    }
    Ok(())
}

fn defines(file: &object::File<'_>, name: &str) -> bool {
    place(file, name).is_some()
}

/// Section and address of a defined symbol.
fn place(file: &object::File<'_>, name: &str) -> Option<(object::SectionIndex, u64)> {
    // Mach-O puts an underscore before each name.
    let named = |n: &str| n == name || n.strip_prefix('_') == Some(name);
    let found = file
        .dynamic_symbols()
        .chain(file.symbols())
        .find(|s| s.is_definition() && s.name().is_ok_and(named))?;
    Some((found.section_index()?, found.address()))
}

fn handshake(file: &object::File<'_>) -> Result<Handshake, String> {
    let size = size_of::<PluginMagic>();
    let (section, address) = place(file, MAGIC_SYMBOL).ok_or("its handshake is in no section")?;
    let section = file.section_by_index(section).map_err(|e| format!("it is damaged ({e})"))?;
    let raw = section
        .data_range(address, size as u64)
        .map_err(|e| format!("it is damaged ({e})"))?
        .filter(|raw| raw.len() == size)
        .ok_or("its handshake is cut off")?;
    let u16_at = |at: usize| u16::from_le_bytes([raw[at], raw[at + 1]]);
    let u32_at = |at: usize| u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
    if raw[..8] != MAGIC {
        return Err("its handshake has the wrong bytes".into());
    }
    // A later one may be longer: it grows at its end.
    let theirs = u32_at(8);
    if (theirs as usize) < size {
        return Err(format!("its handshake has {theirs} bytes of at least {size}"));
    }
    let abi = [u16_at(12), u16_at(14), u16_at(16)];
    let sdk = String::from_utf8_lossy(&raw[24..]).trim_end_matches('\0').to_string();
    check_version(abi, &sdk)?;
    if u32_at(20) & FLAG_UNWIND == 0 {
        return Err("it was built with panic = \"abort\", so a panic in it would end Lacuna: \
                    build it with panic = \"unwind\""
            .into());
    }
    Ok(Handshake { abi, sdk })
}

/// Another major number does not fit; a later minor one knows more, an earlier one less.
fn check_version(abi: [u16; 3], sdk: &str) -> Result<(), String> {
    let ours = [ABI_MAJOR, ABI_MINOR, ABI_PATCH];
    if abi[0] == ABI_MAJOR {
        return Ok(());
    }
    let text = |v: [u16; 3]| format!("{}.{}.{}", v[0], v[1], v[2]);
    Err(format!(
        "it was built for plugin border {} (lacuna-sdk {sdk}), this Lacuna has border {}: rebuild it with the \
         lacuna-sdk of this release",
        text(abi),
        text(ours)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_major_number_is_another_border() {
        for minor in [0, ABI_MINOR, 99] {
            assert_eq!(check_version([ABI_MAJOR, minor, 7], "9.8.7"), Ok(()));
        }
        for (other, text) in [([0, 1, 0], "0.1.0"), ([ABI_MAJOR + 1, 0, 0], "2.0.0")] {
            let reason = check_version(other, "9.8.7").unwrap_err();
            assert!(reason.contains(&format!("plugin border {text} (lacuna-sdk 9.8.7)")), "{reason}");
        }
    }
}
