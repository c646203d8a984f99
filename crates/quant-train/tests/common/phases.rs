//! Parts of recipes that tests of several crates are built from.

/// A phase in which plain SGD trains with a fixed learning rate, in batches of eight images.
/// `$fields` are further lines of the phase.
macro_rules! sgd_phase {
    ($name:literal, $epochs:literal, $learning_rate:literal, $fields:literal) => {
        concat!(
            "\n[[phase]]\nname = '",
            $name,
            "'\nepochs = ",
            $epochs,
            "\nbatch_size = 8\nlearning_rate = ",
            $learning_rate,
            "\nschedule = { policy = 'fix' }\noptimizer = { kind = 'sgd' }\n",
            $fields,
            "\n"
        )
    };
}

/// Quantizers with 2 bits, for the last phase of a recipe.
macro_rules! two_bits {
    () => {
        r#"
    [phase.quantization]
    activation = { method = "lsq", bits = 2 }
    weight = { method = "lsq", bits = 2 }
"#
    };
}
