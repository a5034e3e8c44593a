//! `pairs`

use crate::names::{self, Entry};
use crate::sample::sorted_sample;
use lacuna_sdk::{prelude::*, tracing};

/// More rows than this are refused: 4 GB of knockouts.
const MOST_ROWS: u64 = 200_000_000;

config! {
    /// Parameters of `pairs`.
    pub struct PairsConfig {
        /// How many (cell, pair) triples to draw, evenly over all cells and pairs and without repetition. Left
        /// out: all of them.
        #[range(1..)]
        sample: Option<u64> = None,
        /// Pairs of gene names, such as [["Trem2", "Apoe"]]. Without this and `file`: all pairs of expressed
        /// genes.
        pairs: Vec<Vec<String>> = vec![],
        /// A file with two names a line, separated by a comma, a tab or blanks. Blank lines and comments (`#`)
        /// are skipped.
        file: Option<File> = None,
        /// Also each gene of a cell's pairs alone, so that an evaluation can tell what a pair does beyond the sum of
        /// what each gene does.
        singles: bool = false,
    }
}

/// Double knockouts: all pairs of genes that a cell expresses, or the listed ones among them, or a sample of
/// either, as the DKO reference samples 50,000 (cell, pair) triples. Ordered by cell, then by the genes.
pub struct Pairs(PairsConfig);

impl Component for Pairs {
    const ID: &'static str = "pairs";
    const DOC: &'static str =
        "Knocks out pairs of expressed genes: all, the listed ones, or a sample of them";
    type Config = PairsConfig;
    fn new(config: PairsConfig) -> Result<Self> {
        for entry in listed(&config.pairs) {
            check_two(&entry).map_err(Error::parameters)?;
        }
        Ok(Self(config))
    }
}

impl Strategy for Pairs {
    // A sample is drawn over all cells at once.
    const SCOPE: Scope = Scope::Population;

    fn propose(&self, proposal: &Proposal<'_>, cx: &Context) -> Result<KnockoutList> {
        if proposal.round > 0 {
            return Ok(KnockoutList::new());
        }
        let cells = proposal.cells;
        let candidates = self.candidates(&cells)?;
        let ends =
            running_sum(&cx.parallel_map(cells.len(), |cell| candidates.count(cells.assemblage(cell))));
        let total = ends.last().copied().unwrap_or(0);
        let amount = self.0.sample.unwrap_or(total);
        if amount > total {
            tracing::warn!("sample = {amount} is more than the {total} pairs that there are; taking all");
        }
        check_rows(amount.min(total), cells.len())?;
        let ranks = (amount < total).then(|| sorted_sample(total, amount, &mut cx.stream(0)));
        let pairs = collect(&candidates, &cells, &ends, ranks.as_deref(), cx)?;
        Ok(if self.0.singles { with_singles(&pairs) } else { pairs })
    }
}

/// Pairs, and each of their genes alone, in the order by cell, then by genes.
fn with_singles(pairs: &KnockoutList) -> KnockoutList {
    let mut rows: Vec<(usize, &[u32])> = vec![];
    for pair in pairs.as_knockouts().iter() {
        let cell = pair.cell.unwrap_or(0);
        rows.push((cell, pair.genes));
        rows.extend(pair.genes.chunks(1).map(|gene| (cell, gene)));
    }
    rows.sort_unstable();
    rows.dedup();
    let mut list = KnockoutList::new();
    rows.iter().for_each(|(cell, genes)| list.push(*cell, genes));
    list
}

impl Pairs {
    fn candidates(&self, cells: &Cells<'_>) -> Result<Candidates> {
        if self.0.pairs.is_empty() && self.0.file.is_none() {
            return Ok(Candidates::AllExpressed);
        }
        let mut entries = listed(&self.0.pairs);
        if let Some(file) = &self.0.file {
            let of_file = names::read(file, |line| {
                line.split([',', ';', '\t', ' ']).filter(|name| !name.is_empty()).collect()
            })?;
            for entry in &of_file {
                check_two(entry).map_err(Error::data)?;
            }
            entries.extend(of_file);
        }
        Ok(Candidates::listed(&names::find(&entries, cells)?, cells.n_genes()))
    }
}

fn listed(pairs: &[Vec<String>]) -> Vec<Entry> {
    let entry = |(i, names): (usize, &Vec<String>)| Entry {
        place: format!("pairs, entry {}", i + 1),
        names: names.clone(),
    };
    pairs.iter().enumerate().map(entry).collect()
}

fn check_two(entry: &Entry) -> Result<(), String> {
    match &entry.names[..] {
        [a, b] if a == b => Err(format!("{}: expected two different genes, found `{a}` twice", entry.place)),
        [_, _] => Ok(()),
        names => Err(format!("{}: expected two gene names, found {}", entry.place, names.len())),
    }
}

fn check_rows(rows: u64, cells: usize) -> Result<()> {
    if rows <= MOST_ROWS {
        return Ok(());
    }
    let advice = "draw a part of them with `sample`, such as sample = 50000";
    Err(Error::parameters(format!("{rows} pairs in {cells} cells are more than {MOST_ROWS}: {advice}")))
}

fn running_sum(counts: &[u64]) -> Vec<u64> {
    let add = |sum: &mut u64, &count: &u64| {
        *sum = sum.saturating_add(count);
        Some(*sum)
    };
    counts.iter().scan(0, add).collect()
}

/// The knockouts at these ranks (all, if none are given) in the order by cell, first gene, second gene. The
/// ranks of cell c end before `ends[c]`.
fn collect(
    candidates: &Candidates,
    cells: &Cells<'_>,
    ends: &[u64],
    mut ranks: Option<&[u64]>,
    cx: &Context,
) -> Result<KnockoutList> {
    let mut list = KnockoutList::new();
    let mut start = 0;
    for (cell, &end) in ends.iter().enumerate() {
        cx.check()?;
        let assemblage = cells.assemblage(cell);
        match &mut ranks {
            None => candidates.write(assemblage, 0..end - start, |pair| list.push(cell, &pair)),
            Some(ranks) => {
                let (here, later) = ranks.split_at(ranks.partition_point(|&rank| rank < end));
                let here = here.iter().map(|rank| rank - start);
                candidates.write(assemblage, here, |pair| list.push(cell, &pair));
                *ranks = later;
            }
        }
        start = end;
    }
    Ok(list)
}

/// The pairs that may be knocked out in a cell that expresses both genes.
enum Candidates {
    AllExpressed,
    /// For each gene the later genes that it is listed with, ascending.
    Listed(Vec<Vec<u32>>),
}

impl Candidates {
    fn listed(pairs: &[Vec<u32>], n_genes: usize) -> Self {
        let mut partners = vec![vec![]; n_genes];
        for pair in pairs {
            if let [a, b] = pair[..] {
                partners[a.min(b) as usize].push(a.max(b));
            }
        }
        for later in &mut partners {
            later.sort_unstable();
            later.dedup();
        }
        Self::Listed(partners)
    }

    /// How many pairs a cell with this assemblage has.
    fn count(&self, assemblage: &[u32]) -> u64 {
        match self {
            Self::AllExpressed => pairs_before(assemblage.len() as u64, assemblage.len() as u64),
            Self::Listed(partners) => listed_in(partners, assemblage).count() as u64,
        }
    }

    /// Hands out a cell's pairs at these ranks.
    fn write(&self, assemblage: &[u32], ranks: impl Iterator<Item = u64>, mut push: impl FnMut([u32; 2])) {
        match self {
            Self::AllExpressed => ranks.for_each(|rank| {
                let [first, second] = unrank(rank, assemblage.len() as u64);
                push([assemblage[first as usize], assemblage[second as usize]]);
            }),
            Self::Listed(partners) => {
                let pairs: Vec<_> = listed_in(partners, assemblage).collect();
                ranks.for_each(|rank| push(pairs[rank as usize]));
            }
        }
    }
}

fn listed_in<'a>(partners: &'a [Vec<u32>], assemblage: &'a [u32]) -> impl Iterator<Item = [u32; 2]> + 'a {
    assemblage.iter().flat_map(move |&first| {
        let later = partners[first as usize].iter();
        later.filter(|second| assemblage.binary_search(second).is_ok()).map(move |&second| [first, second])
    })
}

/// How many pairs of k places have a first place below `first`: Σ (k − 1 − i) over i < first.
fn pairs_before(first: u64, k: u64) -> u64 {
    first * (2 * k).saturating_sub(first + 1) / 2
}

/// The pair of places at this rank, in the order (0, 1), (0, 2), …, (k − 2, k − 1).
fn unrank(rank: u64, k: u64) -> [u64; 2] {
    let (mut first, mut above) = (0, k);
    while above - first > 1 {
        let middle = first.midpoint(above);
        if pairs_before(middle, k) <= rank { first = middle } else { above = middle }
    }
    [first, rank - pairs_before(first, k) + first + 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{TempFile, four_cells, propose, rows};
    use lacuna_sdk::testing;

    fn pairs(sample: Option<u64>, pairs: &[[&str; 2]], file: Option<File>) -> Pairs {
        let pairs = pairs.iter().map(|p| p.map(String::from).to_vec()).collect();
        Pairs::new(PairsConfig { sample, pairs, file, singles: false }).unwrap()
    }

    /// All pairs of `four_cells`, in order.
    const ALL: [&str; 10] =
        ["c0 A+B", "c0 A+C", "c0 A+D", "c0 B+C", "c0 B+D", "c0 C+D", "c1 B+D", "c3 A+C", "c3 A+D", "c3 C+D"];

    #[test]
    fn all_pairs_of_expressed_genes_in_order_and_one_round_is_all() {
        let list = propose(&pairs(None, &[], None), &four_cells(), 0).unwrap();
        assert_eq!(rows(&list), ALL);
        assert!(propose(&pairs(None, &[], None), &four_cells(), 1).unwrap().is_empty());
    }

    #[test]
    fn listed_pairs_come_once_in_cells_that_express_both_genes() {
        let file = TempFile::new("pairs.txt", "# two\nD C\nA,\tC\n");
        let listed = pairs(None, &[["D", "B"], ["B", "D"], ["A", "E"]], file.param());
        let list = propose(&listed, &four_cells(), 0).unwrap();
        assert_eq!(rows(&list), ["c0 A+C", "c0 B+D", "c0 C+D", "c1 B+D", "c3 A+C", "c3 C+D"]);
    }

    #[test]
    fn ranks_and_pairs_of_places_are_one_to_one() {
        for k in 0..40 {
            let expected: Vec<_> = (0..k).flat_map(|i| (i + 1..k).map(move |j| [i, j])).collect();
            assert_eq!(expected.len() as u64, pairs_before(k, k));
            let found: Vec<_> = (0..expected.len() as u64).map(|rank| unrank(rank, k)).collect();
            assert_eq!(found, expected);
        }
        let (k, last) = (60_000, pairs_before(60_000, 60_000) - 1);
        assert_eq!(unrank(last, k), [k - 2, k - 1]);
    }

    #[test]
    fn a_sample_is_part_of_the_whole_in_order_and_the_same_each_time() {
        let sample = || rows(&propose(&pairs(Some(4), &[], None), &four_cells(), 0).unwrap());
        let places: Vec<_> =
            sample().iter().map(|row| ALL.iter().position(|all| all == row).unwrap()).collect();
        assert!(places.len() == 4 && places.is_sorted_by(|a, b| a < b));
        assert_eq!(sample(), sample());
    }

    #[test]
    fn singles_stand_beside_the_pairs_of_their_cell_once() {
        let pairs = vec![["A", "C"].map(String::from).to_vec(), ["D", "C"].map(String::from).to_vec()];
        let config = PairsConfig { pairs, singles: true, ..PairsConfig::default() };
        let list = propose(&Pairs::new(config).unwrap(), &four_cells(), 0).unwrap();
        let expected =
            ["c0 A", "c0 A+C", "c0 C", "c0 C+D", "c0 D", "c3 A", "c3 A+C", "c3 C", "c3 C+D", "c3 D"];
        assert_eq!(rows(&list), expected);
    }

    #[test]
    fn every_cell_and_pair_is_equally_likely() {
        let owned = four_cells();
        let view = owned.to_view();
        let proposal = testing::proposal(Cells::from_view(&view));
        let mut counts = [0.0f64; ALL.len()];
        for seed in 0..3000 {
            let list = pairs(Some(3), &[], None).propose(&proposal, &testing::context(seed)).unwrap();
            rows(&list).iter().for_each(|row| counts[ALL.iter().position(|all| all == row).unwrap()] += 1.0);
        }
        // 900 of each expected; χ² as in sample.rs, 9 degrees of freedom, 99.99 %.
        let chi_square: f64 = counts.iter().map(|c| (c - 900.0).powi(2) / 900.0).sum::<f64>() * 9.0 / 7.0;
        assert!(chi_square < 33.7, "{chi_square}");
    }

    #[test]
    fn a_sample_of_listed_pairs_and_more_than_there_are() {
        let listed = [["A", "C"], ["B", "D"]];
        let all = ["c0 A+C", "c0 B+D", "c1 B+D", "c3 A+C"];
        let some = rows(&propose(&pairs(Some(3), &listed, None), &four_cells(), 0).unwrap());
        assert!(some.len() == 3 && some.iter().all(|row| all.contains(&row.as_str())));
        assert_eq!(rows(&propose(&pairs(Some(9), &listed, None), &four_cells(), 0).unwrap()), all);
    }

    #[test]
    fn a_sample_from_thousands_of_millions_needs_no_list_of_them() {
        let genes = 2000;
        let mut cells = OwnedCells::new((0..genes).map(|j| format!("g{j}")).collect());
        (0..150).for_each(|c| cells.push(format!("c{c}"), &vec![1.0; genes]));
        let error = propose(&pairs(None, &[], None), &cells, 0).unwrap_err();
        let message = "299850000 pairs in 150 cells are more than 200000000: draw a part of them with `sample`, \
                       such as sample = 50000";
        assert_eq!(error, Error::parameters(message));
        let list = propose(&pairs(Some(50_000), &[], None), &cells, 0).unwrap();
        assert_eq!(list.len(), 50_000);
        let knockouts: Vec<_> = list.as_knockouts().iter().map(|k| (k.cell, k.genes.to_vec())).collect();
        assert!(
            knockouts.is_sorted_by(|a, b| a < b) && knockouts.iter().all(|(_, genes)| genes[0] < genes[1])
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let config = |names: &[&str]| {
            let pairs = vec![names.iter().map(|n| n.to_string()).collect()];
            Pairs::new(PairsConfig { pairs, ..PairsConfig::default() }).err()
        };
        let message = "pairs, entry 1: expected two gene names, found 3";
        assert_eq!(config(&["A", "B", "C"]), Some(Error::parameters(message)));
        let message = "pairs, entry 1: expected two different genes, found `A` twice";
        assert_eq!(config(&["A", "A"]), Some(Error::parameters(message)));
        let unknown = propose(&pairs(None, &[["A", "B"], ["C", "d"]], None), &four_cells(), 0).unwrap_err();
        let message = "pairs, entry 2: no gene `d` among the 5 genes; did you mean `D`?";
        assert_eq!(unknown, Error::data(message));
        let file = TempFile::new("one-name.txt", "A B\nC\n");
        let error = propose(&pairs(None, &[], file.param()), &four_cells(), 0).unwrap_err();
        assert!(
            matches!(error, Error::Data(m) if m.ends_with("one-name.txt, line 2: expected two gene names, found 1"))
        );
    }
}
