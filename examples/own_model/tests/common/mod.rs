//! The recipe that the tests of this program share.

/// A recipe with a phase in full precision and a quantized phase, on random images. `$epochs` and
/// `$more` are fields of the quantized phase, `$quantization` is a field of its quantizers.
macro_rules! own {
    ($epochs:literal, $more:literal, $quantization:literal) => {
        concat!(
            r#"
    name = "own"
    [data]
    kind = "fake"
    input_size = 16
    fake = { train = 24, val = 12, classes = 3 }
    [model]
    own = "net"
    [[phase]]
    name = "full"
    epochs = 1
    batch_size = 4
    learning_rate = 0.01
    [[phase]]
    name = "quantized"
    batch_size = 4
    learning_rate = 0.01
    epochs = "#,
            $epochs,
            $more,
            r#"
    [phase.quantization]
    activation = { method = "lsq", bits = 4 }
    weight = { method = "lsq", bits = 4, granularity = "per-channel" }
    "#,
            $quantization
        )
    };
}
