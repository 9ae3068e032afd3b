//! Progress bars on standard error.

use std::sync::Arc;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::bundle::publish::{OnUpload, Upload};

/// A bar for an upload: shown on a terminal, unless the output is for a program.
pub fn upload_bar(json: bool) -> (ProgressBar, OnUpload) {
    let bar = ProgressBar::hidden();
    let style = "uploading {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}";
    bar.set_style(ProgressStyle::with_template(style).expect("the template is valid"));
    let shared = bar.clone();
    let on_upload = Arc::new(move |upload| match upload {
        Upload::Planned { bytes: 0, .. } => {}
        Upload::Planned { bytes, .. } => {
            shared.set_length(bytes);
            if !json {
                shared.set_draw_target(ProgressDrawTarget::stderr());
            }
        }
        Upload::Sent { bytes } => shared.inc(bytes),
    });
    (bar, on_upload)
}
