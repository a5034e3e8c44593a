//! The steady state of a community: which species live on, and how abundant they are.
//!
//! In a steady state that nobody absent from it could invade, each species either lives, and does not grow (w_i =
//! 0), or is gone (x_i = 0), and would not grow (w_i ≤ 0), where w = r + A x is the growth per head: a linear
//! complementarity problem. Where A + Aᵀ is negative definite it has one solution, and from everywhere all present
//! communities go there (Takeuchi 1996). It is found by exchanging species between those that live and those that
//! are gone, each exchange one pivot (Júdice and Pires 1994, with Murty's rule where they would go round in circles).

/// A value that far on the wrong side of 0 is rounding.
const ROUNDING: f64 = 1e-12;
/// Exchanges of all species that are amiss at once, without there being fewer, before single ones are tried.
const PATIENCE: usize = 10;
/// Rounds of exchanges, of which a few are needed.
const MOST_ROUNDS: usize = 100_000;

/// Species on their way to the steady state. `value` is the abundance of a species that lives, and the growth per
/// head of one that is gone; `table` says how these change with the growth of the living and the abundance of the gone.
#[derive(Debug, Clone, PartialEq)]
pub struct Balance {
    table: Vec<f64>,
    value: Vec<f64>,
    lives: Vec<bool>,
    /// Gone for good: it does not come back, whatever its growth would be.
    lost: Vec<bool>,
}

impl Balance {
    /// All species gone, of these growth rates and interactions (row by row).
    pub fn new(growth: Vec<f64>, interactions: Vec<f64>) -> Self {
        let n = growth.len();
        Self { table: interactions, value: growth, lives: vec![false; n], lost: vec![false; n] }
    }

    /// Whether a species lives.
    pub fn lives(&self, i: usize) -> bool {
        self.lives[i]
    }

    /// The abundance of a species.
    pub fn abundance(&self, i: usize) -> f64 {
        if self.lives[i] { self.value[i].max(0.0) } else { 0.0 }
    }

    /// Takes a species out for good.
    pub fn lose(&mut self, i: usize) {
        if self.lives[i] {
            self.exchange(i);
        }
        self.lost[i] = true;
    }

    /// Adds to the growth rate of a species.
    pub fn grow(&mut self, i: usize, by: f64) {
        // Of the living, x = −A⁻¹ (r − w), and the table is A⁻¹; of the gone, w = r + A x.
        let n = self.value.len();
        if !self.lives[i] {
            self.value[i] += by;
            return;
        }
        for k in 0..n {
            self.value[k] -= self.table[k * n + i] * by;
        }
    }

    /// The abundances without species `i`, if all others live on: one column of the table tells.
    pub fn without(&self, i: usize) -> Option<Vec<f64>> {
        let n = self.value.len();
        let share = self.value[i] / self.table[i * n + i];
        let mut rest: Vec<f64> = (0..n).map(|k| self.value[k] - self.table[k * n + i] * share).collect();
        rest[i] = 0.0;
        let others = || (0..n).filter(|&k| k != i);
        (self.lives[i] && others().all(|k| self.lives[k] && rest[k] >= 0.0)).then_some(rest)
    }

    /// Exchanges species until each is on its right side; false if they never are.
    pub fn settle(&mut self) -> bool {
        let (mut fewest, mut patience) = (usize::MAX, PATIENCE);
        for _ in 0..MOST_ROUNDS {
            let amiss: Vec<usize> = (0..self.value.len()).filter(|&i| self.is_amiss(i)).collect();
            if amiss.is_empty() {
                return true;
            }
            if amiss.len() < fewest {
                (fewest, patience) = (amiss.len(), PATIENCE);
            }
            match patience {
                0 => self.exchange(amiss[0]),
                _ => {
                    patience -= 1;
                    amiss.into_iter().for_each(|i| self.exchange(i));
                }
            }
        }
        false
    }

    fn is_amiss(&self, i: usize) -> bool {
        if self.lives[i] { self.value[i] < -ROUNDING } else { !self.lost[i] && self.value[i] > ROUNDING }
    }

    /// Lets a gone species live, or a living one go: a pivot, which solves the equation of the species for its
    /// other variable and puts that into all others.
    fn exchange(&mut self, i: usize) {
        let n = self.value.len();
        let pivot = self.table[i * n + i];
        let row: Vec<f64> = self.table[i * n..(i + 1) * n].to_vec();
        let value = self.value[i];
        for k in (0..n).filter(|&k| k != i) {
            let own = &mut self.table[k * n..(k + 1) * n];
            let factor = own[i] / pivot;
            own.iter_mut().zip(&row).for_each(|(own, row)| *own -= factor * row);
            own[i] = factor;
            self.value[k] -= factor * value;
        }
        let own = &mut self.table[i * n..(i + 1) * n];
        own.iter_mut().zip(&row).for_each(|(own, row)| *own = -row / pivot);
        own[i] = 1.0 / pivot;
        self.value[i] = -value / pivot;
        self.lives[i] = !self.lives[i];
    }

    /// Only the species that live, in their order; of the others nothing is kept.
    pub fn living(&self) -> Self {
        let n = self.value.len();
        let living: Vec<usize> = (0..n).filter(|&i| self.lives[i]).collect();
        let row = |i: usize| living.iter().map(move |&k| self.table[i * n + k]);
        Self {
            table: living.iter().flat_map(|&i| row(i)).collect(),
            value: living.iter().map(|&i| self.value[i]).collect(),
            lives: vec![true; living.len()],
            lost: vec![false; living.len()],
        }
    }
}

/// Whether a symmetric matrix is positive definite: whether it has a Cholesky factor.
pub fn is_positive_definite(mut matrix: Vec<f64>, n: usize) -> bool {
    for j in 0..n {
        let (above, below) = matrix.split_at_mut((j + 1) * n);
        let row = &mut above[j * n..];
        let pivot = row[j] - row[..j].iter().map(|l| l * l).sum::<f64>();
        if pivot <= 0.0 || pivot.is_nan() {
            return false;
        }
        row[j] = pivot.sqrt();
        for other in below.chunks_exact_mut(n) {
            let dot: f64 = row[..j].iter().zip(&other[..j]).map(|(a, b)| a * b).sum();
            other[j] = (other[j] - dot) / row[j];
        }
    }
    true
}
