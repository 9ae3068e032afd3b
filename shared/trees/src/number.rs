//! The two widths of numbers that ensembles are made of.

use alloc::vec::Vec;

/// `f32` or `f64`.
pub(crate) trait Number: Copy + PartialOrd + Default + core::fmt::Debug {
    /// Bytes in a file.
    const WIDTH: usize;

    fn from_f64(value: f64) -> Self;
    fn to_f32(self) -> f32;
    fn add(self, other: Self) -> Self;
    fn divide(self, count: usize) -> Self;
    fn negative(self) -> Self;
    /// The next smaller number.
    fn below(self) -> Self;
    fn missing(self) -> bool;
    fn read(bytes: &[u8]) -> Vec<Self>;
    fn write(self, into: &mut Vec<u8>);
}

macro_rules! number {
    ($type:ident) => {
        impl Number for $type {
            const WIDTH: usize = size_of::<$type>();

            #[inline]
            fn from_f64(value: f64) -> Self {
                value as $type
            }

            #[inline]
            fn to_f32(self) -> f32 {
                self as f32
            }

            #[inline]
            fn add(self, other: Self) -> Self {
                self + other
            }

            #[inline]
            fn divide(self, count: usize) -> Self {
                self / count as $type
            }

            #[inline]
            fn negative(self) -> Self {
                -self
            }

            fn below(self) -> Self {
                self.next_down()
            }

            #[inline]
            fn missing(self) -> bool {
                self.is_nan()
            }

            fn read(bytes: &[u8]) -> Vec<Self> {
                let (whole, _) = bytes.as_chunks::<{ size_of::<$type>() }>();
                whole.iter().map(|raw| $type::from_le_bytes(*raw)).collect()
            }

            fn write(self, into: &mut Vec<u8>) {
                into.extend_from_slice(&self.to_le_bytes());
            }
        }
    };
}

number!(f32);
number!(f64);
