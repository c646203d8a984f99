//! The properties that a Burn record must share with the quantizer that it is loaded into.

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
/// Burn compares only the names and shapes of a record's tensors with those of the module that it
/// is loaded into. The method, the range and the normalisation are therefore part of the path of
/// the constants (`signature.lsq-unsigned.levels`), and the numbers of levels and groups are their
/// lengths. Loading a record of another quantizer is then an error of
/// [`try_load_record`](Module::try_load_record). The values of the constants are zeros. Records
/// that were written without them load with `allow_partial(true)`.
#[derive(Debug, Clone)]
#[doc(hidden)]
pub struct Signature {
    name: String,
    sizes: Sizes,
}

#[derive(Module, Debug)]
struct Sizes {
    /// One zero for each level.
    levels: Param<Tensor<1, Int>>,
    /// One zero for each group.
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

/// The container type that Burn's visitors are given with the name.
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
