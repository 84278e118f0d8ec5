//! The outline of a sound: how loud it is at its loudest in each of 64 stretches of equal length.

/// The stretches of a waveform.
pub(crate) const STRETCHES: usize = 64;

/// Takes samples one by one, keeps a peak a window. Memory grows by 4 bytes a window, 80 KiB an hour.
pub(crate) struct Peaks {
    samples_per_window: usize,
    in_window: usize,
    peak: f32,
    windows: Vec<f32>,
}

impl Peaks {
    /// For sound of `samples_per_s`, all channels counted. Windows are 50 ms.
    pub(crate) fn new(samples_per_s: u32) -> Self {
        Self { samples_per_window: (samples_per_s as usize / 20).max(1), in_window: 0, peak: 0.0, windows: Vec::new() }
    }

    /// A sample, −1 to 1. What isn't a number is silence.
    pub(crate) fn push(&mut self, sample: f32) {
        if sample.abs() > self.peak {
            self.peak = sample.abs().min(1.0);
        }
        self.in_window += 1;
        if self.in_window == self.samples_per_window {
            self.close();
        }
    }

    fn close(&mut self) {
        self.windows.push(self.peak);
        (self.peak, self.in_window) = (0.0, 0);
    }

    /// 64 peaks, 0–255, the loudest 255; nothing if there was no sample. Silence is 0 throughout.
    pub(crate) fn finish(mut self) -> Option<Vec<u8>> {
        if self.in_window > 0 {
            self.close();
        }
        let windows = &self.windows;
        let loudest = windows.iter().copied().fold(0.0, f32::max);
        (!windows.is_empty()).then(|| {
            (0..STRETCHES)
                .map(|stretch| {
                    let from = stretch * windows.len() / STRETCHES;
                    let to = ((stretch + 1) * windows.len() / STRETCHES).max(from + 1);
                    let peak = windows[from..to].iter().copied().fold(0.0, f32::max);
                    if loudest > 0.0 { (peak / loudest * 255.0).round() as u8 } else { 0 }
                })
                .collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swell_is_a_ramp() {
        let mut peaks = Peaks::new(1_000);
        for n in 0..10_000 {
            let loud = n as f32 / 20_000.0;
            peaks.push(if n % 2 == 0 { loud } else { -loud });
        }
        let waveform = peaks.finish().unwrap();
        assert_eq!(waveform.len(), STRETCHES);
        assert!(waveform.is_sorted());
        assert!(waveform[0] < 8 && waveform[63] == 255);
        assert!(waveform[31].abs_diff(127) < 5, "{}", waveform[31]);
    }

    #[test]
    fn little_or_strange_sound() {
        assert_eq!(Peaks::new(48_000).finish(), None);
        let mut one = Peaks::new(0);
        one.push(f32::NAN);
        assert_eq!(one.finish(), Some(vec![0; STRETCHES]));
        let mut loud = Peaks::new(48_000);
        loud.push(f32::INFINITY);
        assert_eq!(loud.finish(), Some(vec![255; STRETCHES]));
    }
}
