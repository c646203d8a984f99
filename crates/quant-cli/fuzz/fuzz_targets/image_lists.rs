#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| quant_fuzz::image_lists(bytes));
