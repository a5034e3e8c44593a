//! A model: what a cell's profile is, given the genes that it expresses.
use lacuna_sdk::prelude::*;
use lacuna_sdk::tracing;

config! {
    /// Parameters of `shrunken-mean`.
    pub struct ShrunkenMeanConfig {
        /// How many cells the average gene counts for: the fewer cells express a gene, the nearer its mean is
        /// drawn to the average.
        #[range(0.001..=1e6)]
        strength: f64 = 5.0,
    }
}

/// The mean share of each gene where it is expressed, shrunken towards that of the average gene. It relates no gene
/// to another: what is left after a knockout keeps its proportions.
pub struct ShrunkenMean(ShrunkenMeanConfig);

impl Component for ShrunkenMean {
    const ID: &str = "shrunken-mean";
    const DOC: &str = "Each gene's mean share where it is expressed, shrunken towards the average gene's";
    type Config = ShrunkenMeanConfig;
    fn new(config: ShrunkenMeanConfig) -> Result<Self> {
        Ok(Self(config))
    }
}

impl Model for ShrunkenMean {
    type Fitted = Means;
    const INFO: ModelInfo = ModelInfo::PROFILES;

    fn fit(&self, training: &Training<'_>, cx: &Context) -> Result<Means> {
        let cells = training.cells;
        let (mut sums, mut counts) = (vec![0.0; cells.n_genes()], vec![0.0; cells.n_genes()]);
        for cell in 0..cells.len() {
            cx.check()?;
            for (&gene, share) in cells.assemblage(cell).iter().zip(cells.shares(cell)) {
                sums[gene as usize] += f64::from(share);
                counts[gene as usize] += 1.0;
            }
        }
        let expressed: f64 = counts.iter().sum();
        if expressed == 0.0 {
            let message =
                format!("expected training cells that express genes, found none among {}", cells.len());
            return Err(Error::data(message));
        }
        let average = sums.iter().sum::<f64>() / expressed;
        tracing::info!("the average gene has a share of {average:.2e}");
        let strength = self.0.strength;
        let shrunken = |(sum, count)| ((sum + strength * average) / (count + strength)) as f32;
        let means = sums.into_iter().zip(counts).map(shrunken).collect();
        Ok(Means { genes: cells.gene_names(), means })
    }
}

/// The fitted model: a mean for each gene.
pub struct Means {
    genes: Vec<String>,
    means: Vec<f32>,
}

impl Fitted for Means {
    fn predict(&self, query: &Query<'_>, answer: &mut AnswerMut<'_>, cx: &Context) -> Result<()> {
        self.check(&query.cells)?;
        // This model knows no uncertainty: there is no value, and all samples are equal.
        answer.spread.iter_mut().for_each(|spread| spread.fill(f32::NAN));
        for (i, mut row) in answer.values.rows_mut().into_iter().enumerate() {
            cx.check()?;
            let knockout = query.knockouts.get(i / query.samples);
            let Some(cell) = knockout.cell else {
                return Err(Error::data("expected knockouts in cells, found one of the population"));
            };
            let assemblage = query.cells.assemblage(cell).iter().map(|&gene| gene as usize);
            let kept = assemblage.filter(|&gene| !knockout.genes.contains(&(gene as u32)));
            let total: f32 = kept.clone().map(|gene| self.means[gene]).sum();
            row.fill(0.0);
            kept.for_each(|gene| row[gene] = self.means[gene] / total);
        }
        Ok(())
    }

    fn save(&self) -> Result<Vec<u8>> {
        let saved = Saved::new().names("genes", &self.genes);
        saved.tensor("means", &[self.genes.len()], &self.means).to_bytes()
    }

    fn load(bytes: &[u8]) -> Result<Self> {
        let saved = Saved::from_bytes(bytes)?;
        let genes = saved.get_names("genes")?;
        let means = saved.get_tensor("means", &[genes.len()])?.to_vec();
        Ok(Self { genes, means })
    }
}

impl Means {
    /// Refuses cells with other genes than those of the fit.
    fn check(&self, cells: &Cells<'_>) -> Result<()> {
        let (expected, found) = (self.genes.len(), cells.n_genes());
        if expected != found {
            return Err(Error::data(format!("expected the {expected} genes of the fit, found {found}")));
        }
        match (0..found).find(|&j| cells.gene_name(j) != self.genes[j]) {
            None => Ok(()),
            Some(j) => {
                let (expected, found) = (&self.genes[j], cells.gene_name(j));
                Err(Error::data(format!("gene {j}: expected `{expected}`, as in the fit, found `{found}`")))
            }
        }
    }
}

plugin! { name: "my-plugin", models: [ShrunkenMean] }

#[cfg(test)]
mod tests {
    use super::*;
    use lacuna_sdk::testing;

    fn fitted(cells: &OwnedCells) -> Means {
        testing::fit(&ShrunkenMean::new(ShrunkenMeanConfig { strength: 1.0 }).unwrap(), cells).unwrap()
    }

    /// Two cells of three genes, the last of which nobody expresses.
    fn two_cells() -> OwnedCells {
        testing::cells(&[&[1.0, 3.0, 0.0], &[0.0, 1.0, 0.0]])
    }

    #[test]
    fn a_knocked_out_gene_is_silent_and_the_rest_sums_to_1() {
        let cells = two_cells();
        let mut knockouts = KnockoutList::new();
        knockouts.push(0, &[]);
        knockouts.push(0, &[0]);
        let answers = testing::predict(&fitted(&cells), &cells, &knockouts).unwrap();
        assert!((answers.row(0).sum() - 1.0).abs() < 1e-6 && answers[[0, 0]] < answers[[0, 1]]);
        assert_eq!(answers.row(1).to_vec(), [0.0, 1.0, 0.0]);
    }

    #[test]
    fn rare_genes_are_drawn_to_the_average() {
        let means = fitted(&two_cells()).means;
        let average = 2.0 / 3.0;
        assert!((means[0] - (0.25 + average) / 2.0).abs() < 1e-6, "{means:?}");
        assert!((means[2] - average).abs() < 1e-6, "{means:?}");
    }

    #[test]
    fn a_saved_model_predicts_the_same_and_other_genes_are_refused() {
        let cells = two_cells();
        let model = fitted(&cells);
        let loaded = Means::load(&model.save().unwrap()).unwrap();
        assert_eq!((&loaded.genes, &loaded.means), (&model.genes, &model.means));
        let error = testing::predict(&loaded, &testing::cells(&[&[1.0]]), &KnockoutList::new()).unwrap_err();
        assert_eq!(error, Error::data("expected the 3 genes of the fit, found 1"));
    }
}
