//! What a Burn record must agree on before it is loaded into a quantizer.

use burn::{
    module::{
        Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
        Param, ParamId,
    },
    tensor::{Device, Int, Tensor},
};

use crate::{
    config::{Normalization, QuantizerConfig},
    text::name,
};

/// Constants of a quantizer that are recorded with its parameters.
///
/// Burn compares the names and shapes of a record's tensors with those of the module it is loaded
/// into, and nothing else. So the method, the range and the normalisation are part of the
/// constants' path (`signature.lsq-unsigned.levels`), and the numbers of levels and groups are
/// their lengths: a record of another quantizer is an error of
/// [`try_load_record`](Module::try_load_record). Their values are zeros. Records that were written
/// without them load with `allow_partial(true)`.
#[derive(Debug, Clone)]
pub struct Signature {
    name: String,
    sizes: Sizes,
}

#[derive(Module, Debug)]
struct Sizes {
    /// As many zeros as there are levels.
    levels: Param<Tensor<1, Int>>,
    /// As many zeros as there are groups.
    groups: Param<Tensor<1, Int>>,
}

impl Signature {
    pub(crate) fn new(config: &QuantizerConfig, groups: usize, device: &Device) -> Self {
        let mut text = format!("{}-{}", config.method, name(&config.range));
        if config.normalization != Normalization::None {
            text += &format!("-{}", name(&config.normalization));
        }
        let zeros =
            |count: usize| Param::initialized(ParamId::new(), Tensor::zeros([count], device));
        let sizes = Sizes { levels: zeros(config.levels.count()), groups: zeros(groups) };
        Self { name: text, sizes }
    }

    fn with(self, change: impl FnOnce(Sizes) -> Sizes) -> Self {
        Self { sizes: change(self.sizes), ..self }
    }
}

/// The kind of container that the name stands in, for Burn's visitors.
const CONTAINER: &str = "Struct:Signature";

impl Module for Signature {
    fn collect_devices(&self, devices: Devices) -> Devices {
        self.sizes.collect_devices(devices)
    }

    fn fork(self, device: &Device) -> Self {
        self.with(|sizes| sizes.fork(device))
    }

    fn to_device(self, device: &Device) -> Self {
        self.with(|sizes| sizes.to_device(device))
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        visitor.enter_module(&self.name, CONTAINER);
        self.sizes.visit(visitor);
        visitor.exit_module(&self.name, CONTAINER);
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        mapper.enter_module(&self.name, CONTAINER);
        let sizes = self.sizes.map(mapper);
        mapper.exit_module(&self.name, CONTAINER);
        Self { sizes, name: self.name }
    }

    fn materialize(self) -> Self {
        self.with(Module::materialize)
    }

    fn valid(&self) -> Self {
        Self { name: self.name.clone(), sizes: self.sizes.valid() }
    }

    fn train(self) -> Self {
        self.with(Module::train)
    }
}

impl ModuleDisplayDefault for Signature {
    fn content(&self, content: Content) -> Option<Content> {
        content.add_formatted(&self.name).optional()
    }
}

impl ModuleDisplay for Signature {}
