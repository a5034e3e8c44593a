//! A device with its buffers: uploads, read-backs, and how units are divided.

use super::kernels::screen::Teams;
use cubecl::features::Plane;
use cubecl::prelude::*;
use cubecl::server::Handle;
use lacuna_sdk::prelude::*;

/// Units of a cube where each has a number of its own; every device takes as many.
pub const UNITS: u32 = 256;
/// Units of a team that is a cube.
const TEAM: usize = 128;
/// Planes of a cube.
const PLANES: usize = 8;
/// Cubes along the first axis; every device takes as many along each.
const ACROSS: usize = 1 << 15;

/// A list of numbers on the device.
#[derive(Clone)]
pub struct Buffer {
    handle: Handle,
    len: usize,
}

/// A device.
#[derive(Clone)]
pub struct Runner<R: Runtime> {
    client: ComputeClient<R>,
    /// Its bytes, where the runtime tells.
    memory: Option<u64>,
    /// Stands where a kernel has an argument that it does not need.
    nothing: Buffer,
}

impl<R: Runtime> Runner<R> {
    /// A device that has been probed, with so many bytes, where the runtime tells.
    pub fn new(client: ComputeClient<R>, memory: Option<u64>) -> Self {
        let nothing = Buffer { handle: client.empty(size_of::<f32>()), len: 1 };
        Self { client, memory, nothing }
    }

    /// An error where a list of so many numbers, or so many such lists, are more than the device holds.
    pub fn check_room(&self, what: &str, lists: u64, numbers: u64) -> Result<()> {
        let most = self.client.properties().memory.max_page_size;
        let (list, all) = (4 * numbers, 4 * numbers * lists);
        let mb = |bytes: u64| bytes.div_ceil(1 << 20);
        let too_large = match self.memory {
            _ if list > most => format!("{} MB in one list, and the device allows {} MB", mb(list), mb(most)),
            Some(memory) if all > memory => format!("{} MB, and the device has {} MB", mb(all), mb(memory)),
            _ => return Ok(()),
        };
        Err(Error::parameters(format!(
            "{what} takes {too_large}: take fewer genes, or a `rank` such as 64, or `device = \"cpu\"`"
        )))
    }

    /// For launches.
    pub fn client(&self) -> &ComputeClient<R> {
        &self.client
    }

    /// Stands where a kernel has an argument that it does not need.
    pub fn nothing(&self) -> ArrayArg<R> {
        self.arg(&self.nothing)
    }

    /// A list as an argument.
    #[allow(unsafe_code)]
    pub fn arg(&self, buffer: &Buffer) -> ArrayArg<R> {
        // SAFETY: the handle was made for so many numbers; kernels are launched in the mode that checks bounds.
        unsafe { ArrayArg::from_raw_parts(buffer.handle.clone(), buffer.len) }
    }

    /// Room for so many numbers of a type, whatever they are.
    pub fn room<T>(&self, len: usize) -> Buffer {
        Buffer { handle: self.client.empty(len.max(1) * size_of::<T>()), len: len.max(1) }
    }

    /// These numbers; an empty list becomes one of a zero, as no device knows empty ones.
    pub fn upload<T: CubeElement + Default>(&self, numbers: &[T]) -> Buffer {
        match numbers {
            [] => self.upload(&[T::default()]),
            _ => Buffer { handle: self.client.create_from_slice(T::as_bytes(numbers)), len: numbers.len() },
        }
    }

    /// What is there after all that was launched.
    pub fn read<T: CubeElement>(&self, buffer: &Buffer) -> Result<Vec<T>> {
        let read = self.client.read_one(buffer.handle.clone());
        let bytes = read.map_err(|e| Error::failed(format!("the device failed: {e:?}")))?;
        Ok(T::from_bytes(&bytes)[..buffer.len].to_vec())
    }

    /// Cubes with a unit for each of so many numbers.
    pub fn units(numbers: usize) -> (CubeCount, CubeDim) {
        (Self::cubes(numbers.div_ceil(UNITS as usize)), CubeDim::new_1d(UNITS))
    }

    /// So many cubes, and some more.
    pub fn cubes(cubes: usize) -> CubeCount {
        let cubes = cubes.max(1);
        CubeCount::Static(cubes.min(ACROSS) as u32, cubes.div_ceil(ACROSS) as u32, 1)
    }

    /// How units are divided into teams: planes of 32, where the device is known to have such.
    pub fn teams(&self) -> Teams {
        let hardware = &self.client.properties().hardware;
        let plane = self.client.features().plane.contains(Plane::Ops)
            && (hardware.plane_size_min, hardware.plane_size_max) == (32, 32);
        match plane {
            true => Teams { units: 32, teams: PLANES, plane },
            false => Teams { units: TEAM, teams: 1, plane },
        }
    }

    /// Cubes with a team for each of so many rows.
    pub fn rows(rows: usize, by: Teams) -> (CubeCount, CubeDim) {
        (Self::cubes(rows.div_ceil(by.teams)), CubeDim::new_2d(by.units as u32, by.teams as u32))
    }

    /// Whether it computes with f16.
    pub fn knows_f16(&self) -> bool {
        let half = half::f16::as_type_native_unchecked().storage_type();
        self.client.properties().supports_type(half)
    }
}

impl Buffer {
    /// How many numbers it has.
    pub fn len(&self) -> usize {
        self.len
    }
}
