//! The layout of the border, as sdk/abi/layout.txt has it: what a change of the types does to libraries that are built
//! already shows before one of them is refused. docs/border.md says what may change.
//!
//! `BLESS=1 cargo test -p lacuna-abi` writes the file anew; from border 1.0 on only where it has grown.

mod changes;
mod text;

use changes::Changes;
use lacuna_abi::ABI_MAJOR;
use std::path::Path;

// Numbers stand for a machine of 64 bits.
#[cfg(target_pointer_width = "64")]
#[test]
fn the_border_has_the_layout_that_was_written_down() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("layout.txt");
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let found = text::border();
    let changes = Changes::between(&written, &found);
    let may_be_blessed = ABI_MAJOR == 0 || changes.breaking.is_empty();
    if std::env::var_os("BLESS").is_some() && may_be_blessed {
        std::fs::write(path, found).expect("the file can be written");
    } else {
        assert!(written == found, "{changes}");
    }
}
