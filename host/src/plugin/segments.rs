//! Whether the parts of an ELF library fit together. The dynamic linker believes the program headers: where one is
//! damaged it may map a file over the host's own memory, or read from there. The section headers say the same again.

use object::elf::{PT_GNU_RELRO, PT_GNU_STACK, PT_LOAD, PT_NULL, SHF_ALLOC, SHF_TLS, SHT_NOBITS};
use object::read::elf::{ProgramHeader, SectionHeader};

/// A part of the file, and where it lies in memory.
struct Part {
    address: u64,
    offset: u64,
    in_file: u64,
    in_memory: u64,
}

impl Part {
    /// Whether a part lies within this one, in the file as in memory.
    fn holds(&self, part: &Part) -> bool {
        let ends_within =
            |start: u64, size: u64, limit: u64| start.checked_add(size).is_some_and(|e| e <= limit);
        let (Some(in_file), Some(in_memory)) =
            (part.offset.checked_sub(self.offset), part.address.checked_sub(self.address))
        else {
            return false;
        };
        let fits =
            part.in_file == 0 || in_file == in_memory && ends_within(in_file, part.in_file, self.in_file);
        fits && ends_within(in_memory, part.in_memory, self.in_memory)
    }
}

/// Whether all segments and sections of a library fit together. A file of another format passes.
pub fn fit(file: &object::File<'_>) -> bool {
    let object::File::Elf64(elf) = file else { return true };
    let endian = elf.endian();
    let (mut loaded, mut parts) = (vec![], vec![]);
    for header in elf.elf_program_headers() {
        let (address, offset) = (header.p_vaddr(endian), header.p_offset(endian));
        let (in_file, in_memory) = (header.p_filesz(endian), header.p_memsz(endian));
        match header.p_type(endian) {
            PT_LOAD => loaded.push(Part { address, offset, in_file, in_memory }),
            PT_NULL | PT_GNU_STACK => {}
            // Says what is not written to later, in memory; some tools leave its place in the file wrong.
            PT_GNU_RELRO => parts.push(Part { address, offset, in_file: 0, in_memory: in_file }),
            // Its memory may go on into padding.
            _ => parts.push(Part { address, offset, in_file, in_memory: in_file }),
        }
    }
    for header in elf.elf_section_table().iter() {
        let (flags, size) = (header.sh_flags(endian), header.sh_size(endian));
        let (address, offset) = (header.sh_addr(endian), header.sh_offset(endian));
        let empty = header.sh_type(endian) == SHT_NOBITS;
        // Threads' variables without a value take no memory of the segment.
        if flags.contains(SHF_ALLOC) && !(empty && flags.contains(SHF_TLS)) {
            let in_file = if empty { 0 } else { size };
            parts.push(Part { address, offset, in_file, in_memory: size });
        }
    }
    let apart = |pair: &[Part]| {
        pair[0].address.checked_add(pair[0].in_memory).is_some_and(|end| end <= pair[1].address)
    };
    loaded.iter().all(|part| part.in_file <= part.in_memory)
        && loaded.windows(2).all(apart)
        && parts.iter().all(|part| loaded.iter().any(|segment| segment.holds(part)))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_has_loaded_fits() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let mut paths: Vec<&str> = maps.lines().filter_map(|l| l.find('/').map(|at| &l[at..])).collect();
        paths.dedup();
        assert!(paths.len() >= 3, "{paths:?}");
        for path in paths {
            let bytes = std::fs::read(path).unwrap();
            assert!(fit(&object::File::parse(bytes.as_slice()).unwrap()), "{path}");
        }
    }
}
