//! Images as numeric features: exposure, contrast, clipping and focus.

use core::fmt;

use heapless::Vec;

/// Most channels of an image.
pub const CHANNELS_MAX: usize = 4;

/// Figures of one image, each to be watched as a numeric feature.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ImageFeatures {
    channels: usize,
    means: [f32; CHANNELS_MAX],
    deviations: [f32; CHANNELS_MAX],
    /// Share of values at or beyond the ends of the range, 0 to 1: over- and underexposure.
    pub saturated: f32,
    /// Variance of the Laplacian of the channels' mean, in squared units of the pixels. It falls
    /// when a lens is out of focus, dirty or fogged.
    pub laplacian_variance: f32,
}

/// Why an image gave no features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// No pixels, no channels, or more than [`CHANNELS_MAX`].
    Shape,
    /// The slice does not hold height × width × channels values.
    Length,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shape => "images need pixels and 1 to 4 channels",
            Self::Length => "the slice is not height x width x channels long",
        })
    }
}

impl core::error::Error for ImageError {}

impl ImageFeatures {
    /// Measures an image of shape `[height, width, channels]`, row-major `f32`, whose values lie
    /// between the two ends of `range` (0 and 1, say, or 0 and 255).
    ///
    /// # Errors
    ///
    /// [`ImageError`] when the slice does not have that shape.
    pub fn measure(
        pixels: &[f32],
        (height, width, channels): (usize, usize, usize),
        range: (f32, f32),
    ) -> Result<Self, ImageError> {
        if height == 0 || width == 0 || channels == 0 || channels > CHANNELS_MAX {
            return Err(ImageError::Shape);
        }
        let length = height.checked_mul(width).and_then(|n| n.checked_mul(channels));
        if length != Some(pixels.len()) {
            return Err(ImageError::Length);
        }
        let (mut means, mut deviations) = ([0.0; CHANNELS_MAX], [0.0; CHANNELS_MAX]);
        for channel in 0..channels {
            let values = || pixels.iter().skip(channel).step_by(channels);
            let mean = row_sums(values().copied(), width) / (height * width) as f64;
            // The second pass is around the mean: a bright, flat image would cancel otherwise.
            let squares = values().map(|&x| (x - mean as f32) * (x - mean as f32));
            let variance = row_sums(squares, width) / (height * width) as f64;
            means[channel] = mean as f32;
            deviations[channel] = libm::sqrtf(variance as f32);
        }
        let clipped = pixels.iter().filter(|&&x| x <= range.0 || x >= range.1);
        Ok(Self {
            channels,
            means,
            deviations,
            saturated: clipped.count() as f32 / pixels.len() as f32,
            laplacian_variance: laplacian_variance(pixels, height, width, channels),
        })
    }

    /// Mean of each channel, in units of the pixels.
    pub fn means(&self) -> &[f32] {
        &self.means[..self.channels]
    }

    /// Standard deviation of each channel, in units of the pixels.
    pub fn deviations(&self) -> &[f32] {
        &self.deviations[..self.channels]
    }

    /// All figures in the order in which bundles list them: means, deviations, saturated share,
    /// Laplacian variance; 2 · channels + 2 values.
    pub fn values(&self) -> Vec<f32, { 2 * CHANNELS_MAX + 2 }> {
        let last = [self.saturated, self.laplacian_variance];
        let all = self.means().iter().chain(self.deviations()).chain(&last);
        all.copied().collect()
    }
}

/// Sums in `f32` along a row and in `f64` over rows: exact enough for megapixels, and only one slow
/// addition a row where the FPU has single precision.
fn row_sums(values: impl Iterator<Item = f32>, width: usize) -> f64 {
    let (mut sum, mut row, mut column) = (0.0_f64, 0.0_f32, 0);
    for value in values {
        row += value;
        column += 1;
        if column == width {
            sum += f64::from(row);
            (row, column) = (0.0, 0);
        }
    }
    sum + f64::from(row)
}

/// Variance of the four-neighbour Laplacian over the inner pixels; 0 where there are none.
///
/// # Source
///
/// Pech-Pacheco et al., *Diatom autofocusing in brightfield microscopy* (ICPR 2000).
fn laplacian_variance(pixels: &[f32], height: usize, width: usize, channels: usize) -> f32 {
    if height < 3 || width < 3 {
        return 0.0;
    }
    let grey = |y: usize, x: usize| -> f32 {
        let start = (y * width + x) * channels;
        pixels[start..start + channels].iter().sum::<f32>() / channels as f32
    };
    let (mut sum, mut sum2) = (0.0_f64, 0.0_f64);
    for y in 1..height - 1 {
        let (mut row, mut row2) = (0.0_f32, 0.0_f32);
        for x in 1..width - 1 {
            let around = grey(y - 1, x) + grey(y + 1, x) + grey(y, x - 1) + grey(y, x + 1);
            let laplacian = around - 4.0 * grey(y, x);
            row += laplacian;
            row2 += laplacian * laplacian;
        }
        sum += f64::from(row);
        sum2 += f64::from(row2);
    }
    let n = ((height - 2) * (width - 2)) as f64;
    // Laplacians average to nearly 0, so this form loses nothing.
    (sum2 / n - (sum / n) * (sum / n)).max(0.0) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_image_has_no_contrast_and_no_edges() {
        let features = ImageFeatures::measure(&[0.5; 75], (5, 5, 3), (0.0, 1.0)).unwrap();
        assert_eq!(features.values(), [0.5, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn a_chequerboard_has_the_strongest_edges() {
        let pixels: [f32; 16] = core::array::from_fn(|i| ((i / 4 + i) % 2) as f32);
        let features = ImageFeatures::measure(&pixels, (4, 4, 1), (0.0, 1.0)).unwrap();
        assert_eq!((features.means(), features.deviations()), (&[0.5][..], &[0.5][..]));
        assert_eq!(features.saturated, 1.0);
        // Every inner pixel differs from its four neighbours by 1, half of them upwards.
        assert_eq!(features.laplacian_variance, 16.0);
    }

    #[test]
    fn channels_are_kept_apart() {
        let pixels = [0.0, 10.0, 2.0, 30.0];
        let features = ImageFeatures::measure(&pixels, (1, 2, 2), (-1.0, 255.0)).unwrap();
        assert_eq!(features.means(), [1.0, 20.0]);
        assert_eq!(features.deviations(), [1.0, 10.0]);
        assert_eq!(features.laplacian_variance, 0.0);
    }

    #[test]
    fn wrong_shapes_are_refused() {
        let measure = |shape| ImageFeatures::measure(&[0.0; 12], shape, (0.0, 1.0));
        assert_eq!(measure((2, 2, 2)), Err(ImageError::Length));
        assert_eq!(measure((2, 1, 6)), Err(ImageError::Shape));
        assert_eq!(measure((0, 2, 2)), Err(ImageError::Shape));
        assert_eq!(measure((usize::MAX, 2, 2)), Err(ImageError::Length));
    }
}
