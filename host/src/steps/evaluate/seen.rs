//! Which of the cells that a model is asked about it has learned from.

use crate::data::Cells;
use std::collections::HashMap;

/// A cell of some cells.
pub type One<'a> = (&'a Cells, usize);

/// Where more than one in so many cells has the name of another, they are the same.
const MANY: usize = 20;

/// How many of the cells asked about are among those that were learned from.
///
/// Where many have the names of such, the names tell: counts may have been drawn of them, or genes left out. Cells of other
/// files may have a few of their names; these are the same only if their library is.
pub fn seen<'a>(learned: impl Iterator<Item = One<'a>>, asked: impl Iterator<Item = One<'a>>) -> usize {
    let named = |(cells, cell): One<'a>| (cells.obs.names[cell].as_str(), cells.library[cell]);
    let learned: HashMap<&str, f64> = learned.map(named).collect();
    let (mut all, mut of_name, mut of_both) = (0, 0, 0);
    for (name, library) in asked.map(named) {
        all += 1;
        if let Some(other) = learned.get(name) {
            of_name += 1;
            of_both += usize::from(*other == library);
        }
    }
    if of_name * MANY > all { of_name } else { of_both }
}

/// All of some cells.
pub fn each(cells: &Cells) -> impl Iterator<Item = One<'_>> {
    (0..cells.len()).map(move |cell| (cells, cell))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Csr, Frame};

    fn cells(names: &[&str], count: f32) -> Cells {
        let mut x = Csr::empty(1);
        names.iter().for_each(|_| x.push_row([(0, count)].into_iter()));
        let names = names.iter().map(|name| name.to_string()).collect();
        Cells::new(x, Frame::of_names(names), Frame::of_names(vec!["g".into()]))
    }

    #[test]
    fn many_common_names_tell_alone_and_few_with_the_library() {
        let names: Vec<String> = (0..40).map(|i| format!("c{i}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let asked = cells(&names, 3.0);
        let of = |learned: &Cells| seen(each(learned), each(&asked));
        assert_eq!(of(&cells(&names[..10], 3.0)), 10);
        assert_eq!(of(&cells(&names[..10], 2.0)), 10);
        assert_eq!(of(&cells(&names[..2], 3.0)), 2);
        assert_eq!(of(&cells(&names[..2], 2.0)), 0);
        assert_eq!(of(&cells(&["other"], 3.0)), 0);
        assert_eq!(seen(each(&asked), each(&cells(&[], 1.0))), 0);
    }
}
