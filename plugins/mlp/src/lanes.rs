//! Sixteen numbers at once, on whatever the processor has: AVX-512, AVX2 with FMA, or plain code.
//!
//! All paths give the same bits: they do the same operations in the same order, product and sum are fused, and sixteen
//! lanes are summed as a fixed tree of halves. `LACUNA_SIMD=avx512|avx2|portable` chooses a path, for tests.

use half::f16;
use std::sync::OnceLock;

/// How many numbers a [`Chunk`] has.
pub const LANES: usize = 16;

/// Sixteen numbers, aligned.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(64))]
pub struct Chunk(pub [f32; LANES]);

/// Sixteen zeros.
pub const ZERO: Chunk = Chunk([0.0; LANES]);

/// Thirty-two numbers as f16, aligned.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(64))]
pub struct Halves(pub [u16; 2 * LANES]);

/// How many chunks hold so many numbers.
pub fn chunks(numbers: usize) -> usize {
    numbers.div_ceil(LANES)
}

/// Number `i` of a list of chunks.
pub fn get(list: &[Chunk], i: usize) -> f32 {
    list[i / LANES].0[i % LANES]
}

/// Sets number `i` of a list of chunks.
pub fn set(list: &mut [Chunk], i: usize, value: f32) {
    list[i / LANES].0[i % LANES] = value;
}

/// These numbers in so many chunks, with zeros behind them.
pub fn packed(numbers: impl Iterator<Item = f32>, chunks: usize) -> Vec<Chunk> {
    let mut list = vec![ZERO; chunks];
    numbers.enumerate().for_each(|(i, x)| set(&mut list, i, x));
    list
}

/// The numbers of chunks, one after the other.
#[allow(unsafe_code)] // A view of the same memory.
pub fn flat(list: &[Chunk]) -> &[f32] {
    // SAFETY: a chunk is sixteen numbers without padding.
    unsafe { std::slice::from_raw_parts(list.as_ptr().cast(), list.len() * LANES) }
}

/// As [`flat`], to be changed.
#[allow(unsafe_code)] // A view of the same memory.
pub fn flat_mut(list: &mut [Chunk]) -> &mut [f32] {
    // SAFETY: as above; the borrow is passed on.
    unsafe { std::slice::from_raw_parts_mut(list.as_mut_ptr().cast(), list.len() * LANES) }
}

/// A row of numbers as f16, each the nearest.
pub fn halves(row: &[Chunk]) -> Vec<Halves> {
    let half = |pair: &[Chunk]| {
        let number = |i: usize| pair.get(i / LANES).map_or(0.0, |chunk| chunk.0[i % LANES]);
        Halves(std::array::from_fn(|i| f16::from_f32(number(i)).to_bits()))
    };
    row.chunks(2).map(half).collect()
}

/// Which numbers of a row a cell wants: one bit each, and their places.
pub struct Marks<'a> {
    bits: Vec<u16>,
    places: &'a [u32],
}

impl<'a> Marks<'a> {
    /// These places of a row of so many chunks, ascending.
    pub fn new(places: &'a [u32], chunks: usize) -> Self {
        let mut bits = vec![0; chunks];
        places.iter().for_each(|&j| bits[j as usize / LANES] |= 1 << (j as usize % LANES));
        Self { bits, places }
    }
}

/// Operations on sixteen numbers. A value of the type says that the processor has what they need.
pub trait Lanes: Copy {
    /// Sixteen numbers in registers.
    type V: Copy;
    /// The same number sixteen times.
    fn splat(self, x: f32) -> Self::V;
    /// From memory.
    fn load(self, chunk: &Chunk) -> Self::V;
    /// Asks for what will be loaded soon.
    #[inline(always)]
    fn fetch(self, _: &Chunk) {}
    /// To memory.
    fn store(self, v: Self::V, chunk: &mut Chunk);
    /// a + b.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// a · b + c, rounded once.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// a · b.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// a / b.
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// √a.
    fn sqrt(self, a: Self::V) -> Self::V;
    /// |a|.
    fn abs(self, a: Self::V) -> Self::V;
    /// a where it is above 0, else 0.
    fn relu(self, a: Self::V) -> Self::V;
    /// The sum of all lanes: halves added to each other until one is left.
    fn sum(self, v: Self::V) -> f32;
    /// Each one's sum: four at once take hardly longer than one.
    #[inline(always)]
    fn sums(self, v: [Self::V; 4]) -> [f32; 4] {
        [self.sum(v[0]), self.sum(v[1]), self.sum(v[2]), self.sum(v[3])]
    }
    /// The marked numbers of a row, one after the other, with zeros behind them. `out` has a chunk more than they need.
    fn compact(self, row: &[Chunk], marks: &Marks<'_>, out: &mut [Chunk]);
    /// The same of a row that is stored as f16. `out` has two chunks more than they need.
    fn compact_halves(self, row: &[Halves], marks: &Marks<'_>, out: &mut [Chunk]) {
        pick_halves(row, marks.places, out);
    }
}

/// Work that is the same on every path.
pub trait Job {
    /// What it gives.
    type Out;
    /// Does it. Has to be `#[inline(always)]`, so that it is compiled for the path.
    fn run<L: Lanes>(self, lanes: L) -> Self::Out;
}

/// A path through the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// AVX-512.
    Avx512,
    /// AVX2 and FMA.
    Avx2,
    /// Anything.
    Portable,
}

impl Path {
    /// The paths that this processor has, the best first.
    pub fn available() -> Vec<Self> {
        [Self::Avx512, Self::Avx2, Self::Portable].into_iter().filter(|path| path.is_available()).collect()
    }

    fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("popcnt")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx512 | Self::Avx2 => false,
            Self::Portable => true,
        }
    }

    /// The best path, or the one that `LACUNA_SIMD` names, if the processor has it.
    pub fn chosen() -> Self {
        static CHOSEN: OnceLock<Path> = OnceLock::new();
        *CHOSEN.get_or_init(|| {
            let asked = std::env::var("LACUNA_SIMD").unwrap_or_default();
            let available = Self::available();
            let named = available.iter().find(|path| format!("{path:?}").eq_ignore_ascii_case(&asked));
            *named.unwrap_or(&available[0])
        })
    }

    /// Does the work on this path; on the portable one where the processor does not have it.
    #[allow(unsafe_code)] // The dispatch: see the reason at each block.
    pub fn run<J: Job>(self, job: J) -> J::Out {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the processor has what the function is compiled for, as was just looked up.
            Self::Avx512 if self.is_available() => unsafe { x86::avx512(job) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Self::Avx2 if self.is_available() => unsafe { x86::avx2(job) },
            _ => job.run(Portable),
        }
    }
}

/// Plain code.
#[derive(Clone, Copy)]
struct Portable;

/// Halves added to each other until one number is left.
#[inline(always)]
fn tree(mut v: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        (0..half).for_each(|i| v[i] += v[i + half]);
        half /= 2;
    }
    v[0]
}

/// The marked numbers, one by one.
#[inline(always)]
fn pick(row: &[Chunk], places: &[u32], out: &mut [Chunk]) {
    out.fill(ZERO);
    for (chunk, places) in out.iter_mut().zip(places.chunks(LANES)) {
        chunk.0.iter_mut().zip(places).for_each(|(x, &j)| *x = get(row, j as usize));
    }
}

/// The same of a row that is stored as f16.
fn pick_halves(row: &[Halves], places: &[u32], out: &mut [Chunk]) {
    out.fill(ZERO);
    let number = |j: usize| f16::from_bits(row[j / (2 * LANES)].0[j % (2 * LANES)]).to_f32();
    for (chunk, places) in out.iter_mut().zip(places.chunks(LANES)) {
        chunk.0.iter_mut().zip(places).for_each(|(x, &j)| *x = number(j as usize));
    }
}

impl Lanes for Portable {
    type V = [f32; LANES];
    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, chunk: &Chunk) -> Self::V {
        chunk.0
    }
    #[inline(always)]
    fn store(self, v: Self::V, chunk: &mut Chunk) {
        chunk.0 = v;
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] / b[i])
    }
    #[inline(always)]
    fn sqrt(self, a: Self::V) -> Self::V {
        a.map(f32::sqrt)
    }
    #[inline(always)]
    fn abs(self, a: Self::V) -> Self::V {
        a.map(f32::abs)
    }
    #[inline(always)]
    fn relu(self, a: Self::V) -> Self::V {
        a.map(|x| if x > 0.0 { x } else { 0.0 })
    }
    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        tree(v)
    }
    #[inline(always)]
    fn compact(self, row: &[Chunk], marks: &Marks<'_>, out: &mut [Chunk]) {
        pick(row, marks.places, out);
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)] // Intrinsics: a token exists only in a function that is compiled for its path.
mod x86 {
    use super::{Chunk, Halves, Job, LANES, Lanes, Marks, ZERO, pick, pick_halves};
    use core::arch::x86_64::*;

    /// Made in [`avx512`] only. Says whether the processor compacts numbers of 16 bits too.
    #[derive(Clone, Copy)]
    struct Avx512(bool);
    /// Made in [`avx2`] only.
    #[derive(Clone, Copy)]
    struct Avx2(());

    #[target_feature(enable = "avx512f,avx512dq,popcnt")]
    pub fn avx512<J: Job>(job: J) -> J::Out {
        job.run(Avx512(is_x86_feature_detected!("avx512vbmi2") && is_x86_feature_detected!("avx512bw")))
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn avx2<J: Job>(job: J) -> J::Out {
        job.run(Avx2(()))
    }

    impl Lanes for Avx512 {
        type V = __m512;
        #[inline(always)]
        fn splat(self, x: f32) -> __m512 {
            // SAFETY: the token says that the processor has AVX-512. So below.
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        fn load(self, chunk: &Chunk) -> __m512 {
            // SAFETY: a chunk has 64 aligned bytes.
            unsafe { _mm512_load_ps(chunk.0.as_ptr()) }
        }
        #[inline(always)]
        fn fetch(self, chunk: &Chunk) {
            // SAFETY: see the token; what is asked for is not touched.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(chunk.0.as_ptr().cast()) }
        }
        #[inline(always)]
        fn store(self, v: __m512, chunk: &mut Chunk) {
            // SAFETY: as for `load`.
            unsafe { _mm512_store_ps(chunk.0.as_mut_ptr(), v) }
        }
        #[inline(always)]
        fn add(self, a: __m512, b: __m512) -> __m512 {
            // SAFETY: see the token.
            unsafe { _mm512_add_ps(a, b) }
        }
        #[inline(always)]
        fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
            // SAFETY: see the token.
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        fn mul(self, a: __m512, b: __m512) -> __m512 {
            // SAFETY: see the token.
            unsafe { _mm512_mul_ps(a, b) }
        }
        #[inline(always)]
        fn div(self, a: __m512, b: __m512) -> __m512 {
            // SAFETY: see the token.
            unsafe { _mm512_div_ps(a, b) }
        }
        #[inline(always)]
        fn sqrt(self, a: __m512) -> __m512 {
            // SAFETY: see the token.
            unsafe { _mm512_sqrt_ps(a) }
        }
        #[inline(always)]
        fn abs(self, a: __m512) -> __m512 {
            // SAFETY: see the token.
            unsafe { _mm512_abs_ps(a) }
        }
        #[inline(always)]
        fn relu(self, a: __m512) -> __m512 {
            // SAFETY: see the token. Of a NaN and 0 it gives the second.
            unsafe { _mm512_max_ps(a, _mm512_setzero_ps()) }
        }
        #[inline(always)]
        fn sum(self, v: __m512) -> f32 {
            // SAFETY: see the token. The halves are those of `tree`.
            unsafe {
                let eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v));
                sum_of_eight(eight)
            }
        }
        #[inline(always)]
        fn sums(self, [a, b, c, d]: [__m512; 4]) -> [f32; 4] {
            let mut sums = [0.0; 4];
            // SAFETY: see the token; four numbers are written. The halves are those of `tree`, of all four together.
            unsafe {
                // No closures: they would be compiled for any processor.
                let ab =
                    _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b));
                let cd =
                    _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(c, d), _mm512_shuffle_f32x4::<0xee>(c, d));
                let fours =
                    _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(ab, cd), _mm512_shuffle_f32x4::<0xdd>(ab, cd));
                let twos = _mm512_add_ps(fours, _mm512_permute_ps::<0x0e>(fours));
                let ones = _mm512_add_ps(twos, _mm512_permute_ps::<0x01>(twos));
                let firsts = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
                let together = _mm512_castps512_ps128(_mm512_permutexvar_ps(firsts, ones));
                _mm_storeu_ps(sums.as_mut_ptr(), together);
            }
            sums
        }
        #[inline(always)]
        fn compact(self, row: &[Chunk], marks: &Marks<'_>, out: &mut [Chunk]) {
            let wanted = marks.places.len();
            assert!(row.len() == marks.bits.len() && out.len() > wanted.div_ceil(LANES));
            let start = out.as_mut_ptr().cast::<f32>();
            let mut n = 0;
            for (chunk, &bits) in row.iter().zip(&marks.bits) {
                // SAFETY: before each chunk at most `wanted` numbers are written, and `out` has room for sixteen more;
                // a chunk has 64 aligned bytes.
                unsafe {
                    let kept = _mm512_maskz_compress_ps(bits, _mm512_load_ps(chunk.0.as_ptr()));
                    _mm512_storeu_ps(start.add(n), kept);
                }
                n += bits.count_ones() as usize;
            }
            debug_assert_eq!(n, wanted);
            out[wanted / LANES].0[wanted % LANES..].fill(0.0);
            out[wanted / LANES + 1..].fill(ZERO);
        }
        #[inline(always)]
        fn compact_halves(self, row: &[Halves], marks: &Marks<'_>, out: &mut [Chunk]) {
            match self.0 {
                // SAFETY: the token says that the processor has it.
                true => unsafe { compact_halves(row, marks, out) },
                false => pick_halves(row, marks.places, out),
            }
        }
    }

    /// Compacts the halves into the back of `out`, and widens them from there to its front.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt")]
    fn compact_halves(row: &[Halves], marks: &Marks<'_>, out: &mut [Chunk]) {
        let wanted = marks.places.len();
        let (used, pairs) = (wanted.div_ceil(LANES), marks.bits.as_chunks::<2>());
        assert!(row.len() == marks.bits.len().div_ceil(2) && out.len() > used + 1);
        // Halves take half the room of numbers: what is written in the back is read before it is overwritten.
        let back = used - used / 2;
        let front = out.as_mut_ptr();
        let start = front.wrapping_add(back).cast::<u16>();
        let mut n = 0;
        let last = pairs.1.first().map(|&bits| [bits, 0]);
        for (halves, bits) in row.iter().zip(pairs.0.iter().copied().chain(last)) {
            let bits = u32::from(bits[0]) | u32::from(bits[1]) << 16;
            // SAFETY: before each step at most `wanted` halves are written, which end in the chunk before the last but
            // one at most, and 32 more fit behind them; 32 halves have 64 aligned bytes.
            unsafe {
                let kept = _mm512_maskz_compress_epi16(bits, _mm512_load_si512(halves.0.as_ptr().cast()));
                _mm512_storeu_si512(start.add(n).cast(), kept);
            }
            n += bits.count_ones() as usize;
        }
        debug_assert_eq!(n, wanted);
        for i in 0..used {
            // SAFETY: chunk `i` is written after halves 16·i to 16·i + 15 are read, and these lie in chunk
            // back + i / 2 ≥ i.
            unsafe {
                let halves = _mm256_loadu_si256(start.add(i * LANES).cast());
                _mm512_store_ps(front.add(i).cast(), _mm512_cvtph_ps(halves));
            }
        }
        if !wanted.is_multiple_of(LANES) {
            out[wanted / LANES].0[wanted % LANES..].fill(0.0);
        }
        out[used..].fill(ZERO);
    }

    /// Halves of eight, of four, of two.
    #[inline(always)]
    fn sum_of_eight(v: __m256) -> f32 {
        // SAFETY: both tokens say that the processor has AVX.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }

    impl Lanes for Avx2 {
        type V = [__m256; 2];
        #[inline(always)]
        fn splat(self, x: f32) -> Self::V {
            // SAFETY: the token says that the processor has AVX2 and FMA. So below.
            unsafe { [_mm256_set1_ps(x); 2] }
        }
        #[inline(always)]
        fn load(self, chunk: &Chunk) -> Self::V {
            let start = chunk.0.as_ptr();
            // SAFETY: a chunk has 64 aligned bytes.
            unsafe { [_mm256_load_ps(start), _mm256_load_ps(start.add(8))] }
        }
        #[inline(always)]
        fn fetch(self, chunk: &Chunk) {
            // SAFETY: SSE has it; what is asked for is not touched.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(chunk.0.as_ptr().cast()) }
        }
        #[inline(always)]
        fn store(self, v: Self::V, chunk: &mut Chunk) {
            let start = chunk.0.as_mut_ptr();
            // SAFETY: as for `load`.
            unsafe {
                _mm256_store_ps(start, v[0]);
                _mm256_store_ps(start.add(8), v[1]);
            }
        }
        #[inline(always)]
        fn add(self, a: Self::V, b: Self::V) -> Self::V {
            // SAFETY: see the token.
            unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
        }
        #[inline(always)]
        fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
            // SAFETY: see the token.
            unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
        }
        #[inline(always)]
        fn mul(self, a: Self::V, b: Self::V) -> Self::V {
            // SAFETY: see the token.
            unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
        }
        #[inline(always)]
        fn div(self, a: Self::V, b: Self::V) -> Self::V {
            // SAFETY: see the token.
            unsafe { [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])] }
        }
        #[inline(always)]
        fn sqrt(self, a: Self::V) -> Self::V {
            // SAFETY: see the token.
            unsafe { [_mm256_sqrt_ps(a[0]), _mm256_sqrt_ps(a[1])] }
        }
        #[inline(always)]
        fn abs(self, a: Self::V) -> Self::V {
            // SAFETY: see the token.
            unsafe {
                let sign = _mm256_set1_ps(-0.0);
                [_mm256_andnot_ps(sign, a[0]), _mm256_andnot_ps(sign, a[1])]
            }
        }
        #[inline(always)]
        fn relu(self, a: Self::V) -> Self::V {
            // SAFETY: see the token. Of a NaN and 0 it gives the second.
            unsafe {
                let nothing = _mm256_setzero_ps();
                [_mm256_max_ps(a[0], nothing), _mm256_max_ps(a[1], nothing)]
            }
        }
        #[inline(always)]
        fn sum(self, v: Self::V) -> f32 {
            // SAFETY: see the token. The halves are those of `tree`.
            sum_of_eight(unsafe { _mm256_add_ps(v[0], v[1]) })
        }
        #[inline(always)]
        fn compact(self, row: &[Chunk], marks: &Marks<'_>, out: &mut [Chunk]) {
            pick(row, marks.places, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lacuna_sdk::rand::RngExt;
    use lacuna_sdk::testing::context;

    /// Every operation once, to numbers of very different sizes.
    struct All<'a>(&'a [Chunk; 3], &'a Marks<'a>, &'a [Chunk]);

    impl Job for All<'_> {
        type Out = (Vec<Chunk>, f32, [f32; 4]);
        #[inline(always)]
        fn run<L: Lanes>(self, l: L) -> Self::Out {
            let [a, b, c] = self.0.each_ref().map(|chunk| l.load(chunk));
            let mut out = vec![ZERO; 2];
            let x = l.abs(l.fma(a, b, c));
            l.store(l.add(l.splat(0.1), l.div(l.sqrt(x), l.mul(b, c))), &mut out[0]);
            l.store(l.relu(a), &mut out[1]);
            let mut picked = vec![Chunk([7.0; LANES]); chunks(self.1.places.len()) + 2];
            l.compact(self.2, self.1, &mut picked);
            out.extend(&picked);
            l.compact_halves(&halves(self.2), self.1, &mut picked);
            out.extend(picked);
            (out, l.sum(a), l.sums([a, b, c, x]))
        }
    }

    #[test]
    fn every_path_gives_the_same_bits() {
        let mut stream = context(5).stream(0);
        let mut number = || stream.random_range(-1.0f32..1.0) * 10f32.powi(stream.random_range(-6..6));
        for wanted in [0, 1, 15, 16, 17, 40] {
            let [a, b, c] = [(); 3].map(|()| Chunk(std::array::from_fn(|_| number())));
            let row: Vec<Chunk> = (0..5).map(|_| Chunk(std::array::from_fn(|_| number()))).collect();
            let places: Vec<u32> = (0..wanted).map(|i| i * 2 - i % 2).collect();
            let marks = Marks::new(&places, row.len());
            let run = |path: Path| path.run(All(&[a, b, c], &marks, &row));
            let expected = run(Path::Portable);
            let second = 2 + chunks(places.len()) + 2;
            for (i, &j) in places.iter().enumerate() {
                assert_eq!(get(&expected.0[2..], i), get(&row, j as usize));
                let half = f16::from_f32(get(&row, j as usize)).to_f32();
                assert_eq!(get(&expected.0[second..], i), half);
            }
            for path in Path::available() {
                assert_eq!(run(path), expected, "{path:?}");
            }
            assert_eq!(expected.1, expected.2[0]);
        }
    }
}
