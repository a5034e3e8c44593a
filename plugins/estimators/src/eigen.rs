//! Eigenvectors of symmetric matrices, and the thin singular value decomposition that follows from them.

use lacuna_sdk::ndarray::{Array1, Array2, ArrayView2, Axis, s};
use lacuna_sdk::prelude::*;

/// Rows of a product that one thread makes at a time.
const ROWS: usize = 64;
/// Components whose squares are below this share of the largest are rounding.
const NOTHING: f64 = 1e-12;
/// Far more than ever needed: two or three are.
const MOST_ROTATIONS: usize = 100;

/// X = U S Vᵀ, of an X of the shape (n, genes), without components of singular value 0.
pub struct Svd {
    /// U, shape (n, components).
    pub left: Array2<f64>,
    /// S², descending.
    pub squares: Array1<f64>,
    /// S Vᵀ, shape (components, genes).
    pub right: Array2<f64>,
}

impl Svd {
    /// By the eigenvectors of X Xᵀ or Xᵀ X, whichever is smaller.
    pub fn of(x: ArrayView2<'_, f64>, cx: &Context) -> Result<Self> {
        let wide = x.nrows() <= x.ncols();
        let (squares, vectors) = eigen(&gram(if wide { x } else { x.reversed_axes() }, cx)?, cx)?;
        let first = squares.first().copied().unwrap_or(0.0);
        let kept = squares.iter().take_while(|&&square| square > NOTHING * first && square > 0.0).count();
        let (squares, vectors) = (Array1::from(squares[..kept].to_vec()), vectors.slice(s![..kept, ..]));
        let roots = squares.mapv(f64::sqrt);
        if wide {
            let right = vectors.dot(&x);
            return Ok(Self { left: vectors.t().to_owned(), squares, right });
        }
        let left = x.dot(&vectors.t()) / roots.view().insert_axis(Axis(0));
        let right = &vectors * &roots.view().insert_axis(Axis(1));
        Ok(Self { left, squares, right })
    }
}

/// X Xᵀ.
fn gram(x: ArrayView2<'_, f64>, cx: &Context) -> Result<Array2<f64>> {
    let n = x.nrows();
    let mut gram = vec![0.0; n * n];
    cx.parallel_chunks(&mut gram, ROWS * n.max(1), |block, out| {
        if cx.is_cancelled() {
            return;
        }
        let rows = block * ROWS..(block * ROWS + out.len() / n);
        let product = x.slice(s![rows, ..]).dot(&x.t());
        out.iter_mut().zip(&product).for_each(|(out, value)| *out = *value);
    });
    cx.check()?;
    Ok(Array2::from_shape_vec((n, n), gram)?)
}

/// Eigenvalues, descending, and eigenvectors as rows, of a symmetric matrix: Householder's reduction to three
/// diagonals, then QL with implicit shifts (tred2 and tql2 of EISPACK, after Bowdler, Martin, Reinsch and
/// Wilkinson 1968).
pub fn eigen(matrix: &Array2<f64>, cx: &Context) -> Result<(Vec<f64>, Array2<f64>)> {
    let n = matrix.nrows();
    if n == 0 {
        return Ok((vec![], Array2::zeros((0, 0))));
    }
    if matrix.iter().any(|value| !value.is_finite()) {
        return Err(Error::data("expected finite sums of products of expression"));
    }
    // Row j holds column j of the published algorithms, so that their inner loops run along memory.
    let mut v: Vec<Vec<f64>> = matrix.rows().into_iter().map(|row| row.to_vec()).collect();
    let (mut d, mut e) = (vec![0.0; n], vec![0.0; n]);
    reduce(&mut v, &mut d, &mut e, cx)?;
    accumulate(&mut v, &mut d, cx)?;
    diagonalise(&mut v, &mut d, &mut e, cx)?;
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| d[b].total_cmp(&d[a]).then(a.cmp(&b)));
    let rows: Vec<f64> = order.iter().flat_map(|&i| v[i].iter().copied()).collect();
    Ok((order.iter().map(|&i| d[i]).collect(), Array2::from_shape_vec((n, n), rows)?))
}

/// Householder's reduction: leaves the reflections in `v`, their sizes in `d` and the second diagonal in `e`.
fn reduce(v: &mut [Vec<f64>], d: &mut [f64], e: &mut [f64], cx: &Context) -> Result<()> {
    let n = d.len();
    (0..n).for_each(|j| d[j] = v[j][n - 1]);
    for i in (1..n).rev() {
        cx.check()?;
        let scale: f64 = d[..i].iter().map(|x| x.abs()).sum();
        let mut h = 0.0;
        if scale == 0.0 {
            e[i] = d[i - 1];
            for j in 0..i {
                d[j] = v[j][i - 1];
                (v[j][i], v[i][j]) = (0.0, 0.0);
            }
        } else {
            d[..i].iter_mut().for_each(|x| *x /= scale);
            h = d[..i].iter().map(|x| x * x).sum();
            let f = d[i - 1];
            let g = if f > 0.0 { -f64::sqrt(h) } else { f64::sqrt(h) };
            e[i] = scale * g;
            h -= f * g;
            d[i - 1] = f - g;
            reflect(v, d, e, i, h);
        }
        d[i] = h;
    }
    Ok(())
}

/// Applies the reflection in `d` to the first i rows and columns.
fn reflect(v: &mut [Vec<f64>], d: &mut [f64], e: &mut [f64], i: usize, h: f64) {
    e[..i].fill(0.0);
    for j in 0..i {
        let f = d[j];
        v[i][j] = f;
        let mut g = e[j] + v[j][j] * f;
        for k in j + 1..i {
            g += v[j][k] * d[k];
            e[k] += v[j][k] * f;
        }
        e[j] = g;
    }
    e[..i].iter_mut().for_each(|x| *x /= h);
    let along: f64 = e[..i].iter().zip(&d[..i]).map(|(e, d)| e * d).sum();
    e[..i].iter_mut().zip(&d[..i]).for_each(|(e, d)| *e -= along / (h + h) * d);
    for j in 0..i {
        let (f, g) = (d[j], e[j]);
        (j..i).for_each(|k| v[j][k] -= f * e[k] + g * d[k]);
        d[j] = v[j][i - 1];
        v[j][i] = 0.0;
    }
}

/// Multiplies the reflections, and leaves the first diagonal in `d`.
fn accumulate(v: &mut [Vec<f64>], d: &mut [f64], cx: &Context) -> Result<()> {
    let n = d.len();
    for i in 0..n - 1 {
        cx.check()?;
        v[i][n - 1] = v[i][i];
        v[i][i] = 1.0;
        let h = d[i + 1];
        let (before, after) = v.split_at_mut(i + 1);
        let reflection = &mut after[0];
        if h != 0.0 {
            (0..=i).for_each(|k| d[k] = reflection[k] / h);
            for row in before {
                let g: f64 = reflection[..=i].iter().zip(&row[..=i]).map(|(a, b)| a * b).sum();
                row[..=i].iter_mut().zip(&d[..=i]).for_each(|(x, d)| *x -= g * d);
            }
        }
        reflection[..=i].fill(0.0);
    }
    for j in 0..n {
        d[j] = v[j][n - 1];
        v[j][n - 1] = 0.0;
    }
    v[n - 1][n - 1] = 1.0;
    Ok(())
}

/// QL: turns the second diagonal to 0, and the rows of `v` along.
fn diagonalise(v: &mut [Vec<f64>], d: &mut [f64], e: &mut [f64], cx: &Context) -> Result<()> {
    let n = d.len();
    e.rotate_left(1);
    e[n - 1] = 0.0;
    let (mut shift, mut size) = (0.0, 0.0f64);
    for l in 0..n {
        size = size.max(d[l].abs() + e[l].abs());
        let m = (l..n).find(|&m| e[m].abs() <= f64::EPSILON * size).unwrap_or(n - 1);
        let mut rotations = 0;
        while m > l && (rotations == 0 || e[l].abs() > f64::EPSILON * size) {
            cx.check()?;
            rotations += 1;
            if rotations > MOST_ROTATIONS {
                return Err(Error::failed("the eigenvectors of the cells' expression do not converge"));
            }
            shift += turn(v, d, e, l, m);
        }
        d[l] += shift;
        e[l] = 0.0;
    }
    Ok(())
}

/// One sweep from row m to row l. Returns by how much all eigenvalues were shifted.
fn turn(v: &mut [Vec<f64>], d: &mut [f64], e: &mut [f64], l: usize, m: usize) -> f64 {
    let g = d[l];
    let p = (d[l + 1] - g) / (2.0 * e[l]);
    let r = if p < 0.0 { -p.hypot(1.0) } else { p.hypot(1.0) };
    d[l] = e[l] / (p + r);
    d[l + 1] = e[l] * (p + r);
    let (second, shift, after) = (d[l + 1], g - d[l], e[l + 1]);
    d[l + 2..].iter_mut().for_each(|x| *x -= shift);
    let mut p = d[m];
    let (mut c, mut c2, mut c3, mut s, mut s2) = (1.0, 1.0, 1.0, 0.0, 0.0);
    for i in (l..m).rev() {
        (c3, c2, s2) = (c2, c, s);
        let (g, h) = (c * e[i], c * p);
        let r = f64::hypot(p, e[i]);
        e[i + 1] = s * r;
        (s, c) = if r > 0.0 { (e[i] / r, p / r) } else { (0.0, 1.0) };
        p = c * d[i] - s * g;
        d[i + 1] = h + s * (c * g + s * d[i]);
        let (one, other) = v.split_at_mut(i + 1);
        for (a, b) in one[i].iter_mut().zip(&mut other[0]) {
            (*a, *b) = (c * *a - s * *b, s * *a + c * *b);
        }
    }
    let p = if second == 0.0 { 0.0 } else { -s * s2 * c3 * after * e[l] / second };
    e[l] = s * p;
    d[l] = c * p;
    shift
}

#[cfg(test)]
mod tests {
    use super::*;
    use lacuna_sdk::rand::RngExt;
    use lacuna_sdk::testing;

    fn random(n: usize, genes: usize, seed: u64) -> Array2<f64> {
        let mut stream = testing::context(seed).stream(0);
        Array2::from_shape_fn((n, genes), |_| stream.random_range(-1.0..1.0))
    }

    fn near(a: &Array2<f64>, b: &Array2<f64>) {
        let most = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(a.dim() == b.dim() && most < 1e-9, "{most}");
    }

    #[test]
    fn what_is_decomposed_is_put_together_again() {
        for (n, genes, seed) in [(1, 1, 1), (2, 2, 2), (7, 30, 3), (30, 7, 4), (100, 101, 5)] {
            let x = random(n, genes, seed);
            let svd = Svd::of(x.view(), &testing::context(1)).unwrap();
            near(&svd.left.dot(&svd.right), &x);
            near(&svd.left.t().dot(&svd.left), &Array2::eye(svd.squares.len()));
            near(&svd.right.dot(&svd.right.t()), &Array2::from_diag(&svd.squares));
            assert!(svd.squares.windows(2).into_iter().all(|pair| pair[0] >= pair[1]));
        }
    }

    #[test]
    fn a_matrix_of_low_rank_or_of_nothing_keeps_no_rounding() {
        let x = random(20, 3, 1).dot(&random(3, 40, 2));
        let svd = Svd::of(x.view(), &testing::context(1)).unwrap();
        assert_eq!(svd.squares.len(), 3);
        near(&svd.left.dot(&svd.right), &x);
        for (n, genes) in [(4, 6), (6, 4), (3, 0)] {
            let svd = Svd::of(Array2::zeros((n, genes)).view(), &testing::context(1)).unwrap();
            assert_eq!((svd.left.dim(), svd.right.dim()), ((n, 0), (0, genes)));
        }
    }

    #[test]
    fn equal_and_diagonal_eigenvalues_are_no_trouble() {
        let (values, vectors) = eigen(&Array2::eye(5), &testing::context(1)).unwrap();
        assert_eq!(values, [1.0; 5]);
        near(&vectors.dot(&vectors.t()), &Array2::eye(5));
        let nan = Array2::from_elem((2, 2), f64::NAN);
        assert!(eigen(&nan, &testing::context(1)).is_err());
    }
}
