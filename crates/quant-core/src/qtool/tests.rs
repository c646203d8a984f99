//! Checks what the options of QTool become.

use burn::tensor::Device;

use super::QtoolOptions;
use crate::{
    config::QuantizerConfig,
    error::QuantizerError,
    method::{FatnnOptions, Method, Role},
    site::Site,
};

fn weight(options: &str) -> Result<Option<QuantizerConfig>, QuantizerError> {
    QtoolOptions::parse("dorefa,lsq", options)?.quantizer(Role::Weight)
}

#[test]
fn a_value_follows_a_space_or_an_equals_sign() {
    let spaced = weight("--wt_bit 2 --wt_enable");
    assert_eq!(weight("--wt_bit=2 --wt_enable"), spaced);
    assert!(spaced.is_ok_and(|quantizer| quantizer.is_some()));
}

#[test]
fn a_disabled_quantizer_is_none() {
    assert_eq!(weight("--wt_bit 2"), Ok(None));
}

#[test]
fn fractional_bits_are_truncated() {
    let config = weight("--wt_enable --wt_bit 2.9").unwrap().unwrap();
    assert_eq!(config.levels.count(), 4);
}

fn groups(options: &str) -> usize {
    let site = Site::weight("conv", [4, 3, 3, 3]);
    weight(options).unwrap().unwrap().init(&site, &Device::flex()).unwrap().groups()
}

#[test]
fn a_negative_group_is_a_group_size() {
    assert_eq!(groups("--wt_enable --wt_bit 2 --wt_quant_group -6"), 2);
}

#[test]
fn a_group_that_does_not_divide_falls_back_to_channels() {
    assert_eq!(groups("--wt_enable --wt_bit 2 --wt_quant_group 5"), 4);
}

#[test]
fn none_is_written_in_any_capitals() {
    let option = |value: &str| {
        let options =
            format!("--wt_enable --wt_bit 2 --wt_adaptive {value} --wt_grad_type {value}");
        weight(&options).unwrap().unwrap()
    };
    assert_eq!(option("None"), option("none"));
    assert_eq!(option("NONE"), option("none"));
}

#[test]
fn options_that_a_method_does_not_act_on_are_removed_and_named() {
    for (keywords, options, idle) in [
        ("dorefa,lsq", "--wt_enable --wt_bit 2 --wt_grad_type STE", "wt_grad_type"),
        ("dorefa", "--wt_enable --wt_bit 2 --wt_adaptive mean-var", "wt_adaptive"),
        ("dorefa", "--fm_enable --fm_bit 2 --fm_adaptive var-mean", "fm_adaptive"),
        ("lq", "--fm_enable --fm_bit 2 --fm_adaptive mean-var", "fm_adaptive"),
        ("xnor", "--wt_enable --wt_bit 1 --wt_grad_type Triangle", "wt_grad_type"),
        ("lq", "--wt_enable --wt_bit 2 --wt_grad_scale loud", "wt_grad_scale"),
        ("lq", "--wt_enable --wt_bit 2 --fm_bit 3", "fm_bit"),
        ("xnor", "--wt_enable --wt_bit 2", "wt_bit"),
    ] {
        let mut qtool = QtoolOptions::parse(keywords, options).unwrap();
        let named = qtool.drop_idle();
        assert_eq!(named.len(), 1, "{options}: {named:?}");
        assert_eq!(named[0].0, idle, "{options}");
        assert!(!qtool.has(idle));
        let any = Role::ALL.map(|role| qtool.quantizer(role).unwrap().is_some());
        assert!(any.contains(&true), "{options}");
    }
    let acting = "--fm_enable --fm_bit 1 --fm_grad_type Triangle --wt_enable --wt_bit 1";
    assert!(QtoolOptions::parse("xnor", acting).unwrap().drop_idle().is_empty());
}

#[test]
fn binary_weights_have_two_levels() {
    let method = |bits: &str| {
        let options = format!("--wt_enable --wt_bit {bits}");
        let qtool = QtoolOptions::parse("dorefa,wt_bin", &options).unwrap();
        qtool.quantizer(Role::Weight).unwrap().unwrap().method
    };
    assert_eq!((method("1"), method("2")), (Method::XNOR, Method::Dorefa));
}

#[test]
fn a_scale_is_what_the_method_makes_of_it() {
    let config = |keywords: &str| {
        let options = "--fm_enable --fm_level 4 --fm_scale 3 --fm_grad_scale fan-scale";
        let qtool = QtoolOptions::parse(keywords, options).unwrap();
        let config = qtool.quantizer(Role::Activation).unwrap().unwrap();
        config.validate("here").unwrap();
        (config.gradient_scale.factor, config.method)
    };
    assert_eq!(config("dorefa,lsq"), (3.0, Method::Lsq));
    let slopes = FatnnOptions { initial_slope: 3.0, closed_form: false };
    assert_eq!(config("dorefa,non-uniform"), (3.0, Method::Fatnn(slopes)));
}

#[test]
fn an_unknown_gradient_type_is_refused() {
    let error = weight("--wt_enable --wt_bit 2 --wt_grad_type magic").unwrap_err();
    assert!(error.to_string().contains("wt_grad_type"), "{error}");
}
