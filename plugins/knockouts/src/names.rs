//! Gene names in parameters and in files.

use lacuna_sdk::prelude::*;

/// Names that stand together, and where, for errors: `with.genes` or `keystones.txt, line 3`.
#[derive(Debug, PartialEq)]
pub struct Entry {
    pub place: String,
    pub names: Vec<String>,
}

/// The entries of a file, one a line: blank lines and comments from `#` on are skipped, quotes around a name
/// are taken off, and a first line that begins with the field `gene` is a header.
pub fn read(file: &File, split: impl Fn(&str) -> Vec<&str>) -> Result<Vec<Entry>> {
    let path = file.as_ref();
    let name = path.display();
    let bytes = std::fs::read(path).map_err(|e| Error::data(format!("{name}: {e}")))?;
    let text =
        String::from_utf8(bytes).map_err(|_| Error::data(format!("{name}: expected text in UTF-8")))?;
    let mut entries = vec![];
    for (i, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let names = split(line).into_iter().map(|n| n.trim().trim_matches('"').to_string()).collect();
        entries.push(Entry { place: format!("{name}, line {}", i + 1), names });
    }
    if is_header(entries.first()) {
        entries.remove(0);
    }
    if entries.is_empty() {
        return Err(Error::data(format!("{name}: expected gene names, found none")));
    }
    Ok(entries)
}

fn is_header(first: Option<&Entry>) -> bool {
    first.and_then(|entry| entry.names.first()).is_some_and(|name| name.eq_ignore_ascii_case("gene"))
}

/// The columns of each entry's genes. The error says where an unknown name stands, and suggests the nearest.
pub fn find(entries: &[Entry], cells: &Cells<'_>) -> Result<Vec<Vec<u32>>> {
    let mut columns =
        find_flat(entries, cells).map_err(|error| with_place(error, entries, cells))?.into_iter();
    Ok(entries.iter().map(|e| columns.by_ref().take(e.names.len()).collect()).collect())
}

fn find_flat(entries: &[Entry], cells: &Cells<'_>) -> Result<Vec<u32>> {
    let names: Vec<&str> = entries.iter().flat_map(|e| &e.names).map(String::as_str).collect();
    cells.find_genes(&names)
}

/// Adds the place of the first unknown name; bisects, since a file may have a million lines.
fn with_place(error: Error, entries: &[Entry], cells: &Cells<'_>) -> Error {
    let numbers: Vec<usize> = (0..entries.len()).collect();
    let first = numbers.partition_point(|&i| find_flat(&entries[..=i], cells).is_ok());
    match (error, entries.get(first)) {
        (Error::Data(message), Some(entry)) => Error::data(format!("{}: {message}", entry.place)),
        (error, _) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{TempFile, four_cells};

    fn first_field(line: &str) -> Vec<&str> {
        line.split(',').take(1).collect()
    }

    #[test]
    fn blank_lines_comments_quotes_and_a_header_are_not_names() {
        let text = "\u{feff}# chosen by hand\ngene,rank\n\n\"A\",1\r\n B ,2 # a housekeeping gene\n";
        let file = TempFile::new("header.csv", text);
        let entries = read(&file.param().unwrap(), first_field).unwrap();
        let names: Vec<_> = entries.iter().map(|e| e.names.join("/")).collect();
        assert_eq!(names, ["A", "B"]);
        assert!(entries[1].place.ends_with("header.csv, line 5"));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let missing = read(&File("no/such/file.txt".into()), first_field).unwrap_err();
        assert!(matches!(missing, Error::Data(m) if m.starts_with("no/such/file.txt: ")));
        let file = TempFile::new("latin1.txt", "");
        std::fs::write(&file.0, [b'A', 0xe4, b'\n']).unwrap();
        let error = read(&file.param().unwrap(), first_field).unwrap_err();
        assert!(matches!(error, Error::Data(m) if m.ends_with("latin1.txt: expected text in UTF-8")));
        let file = TempFile::new("empty.txt", "# nothing yet\n");
        let error = read(&file.param().unwrap(), first_field).unwrap_err();
        assert!(matches!(error, Error::Data(m) if m.ends_with("empty.txt: expected gene names, found none")));
    }

    #[test]
    fn an_unknown_name_is_an_error_with_its_place() {
        let owned = four_cells();
        let view = owned.to_view();
        let entry = |place: &str, names: &[&str]| Entry {
            place: place.into(),
            names: names.iter().map(|n| n.to_string()).collect(),
        };
        let entries = [entry("x, line 1", &["A", "D"]), entry("x, line 2", &["B", "e"])];
        let cells = Cells::from_view(&view);
        assert_eq!(find(&entries[..1], &cells), Ok(vec![vec![0, 3]]));
        let message = "x, line 2: no gene `e` among the 5 genes; did you mean `E`?";
        assert_eq!(find(&entries, &cells), Err(Error::data(message)));
    }
}
