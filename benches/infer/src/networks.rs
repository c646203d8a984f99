//! The networks that are measured.

use quant_infer::{bench::Width, model::Model};

use crate::{
    builder::{Builder, Shape},
    mobilenet_v1_blocks,
};

/// The widths of the table of results, the widest first. The first and the last layer always have 8
/// bits.
pub const WIDTHS: [Width; 5] =
    [Width::Bits(8), Width::Bits(4), Width::Bits(2), Width::Ternary, Width::Signs];

/// A structure of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// ResNet-18 for 1000 classes.
    ResNet18,
    /// ResNet-50 for 1000 classes, with the stride in the 3x3 convolutions.
    ResNet50,
    /// MobileNet v1 for 1000 classes.
    MobileNet,
    /// ResNet-20 for 10 classes, with 16, 32 and 64 channels.
    ResNet20,
}

impl Architecture {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::ResNet18, Self::ResNet50, Self::MobileNet, Self::ResNet20];

    /// Returns the name, as in the results of `benches/compare/engines.py`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ResNet18 => "resnet18",
            Self::ResNet50 => "resnet50",
            Self::MobileNet => "mobilenet_v1",
            Self::ResNet20 => "resnet20",
        }
    }

    /// Returns the side of its images, in pixels.
    pub fn side(self) -> usize {
        if self == Self::ResNet20 { 32 } else { 224 }
    }
}

/// Returns a network with random weights of a width. Ternary networks and those of signs have no
/// ReLU but the first.
pub fn network(architecture: Architecture, width: Width) -> Model {
    let mut builder = Builder::new(width);
    match architecture {
        Architecture::ResNet18 | Architecture::ResNet50 => {
            imagenet_resnet(&mut builder, architecture)
        }
        Architecture::MobileNet => mobilenet(&mut builder),
        Architecture::ResNet20 => cifar_resnet(&mut builder),
    }
    let name = format!("{}-{}", architecture.name(), width.name());
    builder.finish(&name, architecture.side())
}

fn imagenet_resnet(builder: &mut Builder, architecture: Architecture) {
    let mut x = builder.stem(0, Shape::new(64, 7, 2));
    x = builder.norm(x);
    x = builder.real_relu(x);
    x = builder.max_pool(x);
    let depths = if architecture == Architecture::ResNet18 { [2, 2, 2, 2] } else { [3, 4, 6, 3] };
    for (stage, depth) in depths.into_iter().enumerate() {
        for block in 0..depth {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            x = if architecture == Architecture::ResNet18 {
                basic(builder, x, 64 << stage, stride)
            } else {
                bottleneck(builder, x, 64 << stage, stride)
            };
        }
    }
    x = builder.global_pool(x);
    builder.classifier(x, 1000);
}

fn cifar_resnet(builder: &mut Builder) {
    let mut x = builder.stem(0, Shape::new(16, 3, 1));
    x = builder.norm(x);
    x = builder.real_relu(x);
    for stage in 0..3 {
        for block in 0..3 {
            x = basic(builder, x, 16 << stage, if stage > 0 && block == 0 { 2 } else { 1 });
        }
    }
    x = builder.global_pool(x);
    builder.classifier(x, 10);
}

fn basic(builder: &mut Builder, x: usize, outputs: usize, stride: usize) -> usize {
    let y = builder.conv("conv1", x, Shape::new(outputs, 3, stride), false);
    let y = builder.norm(y);
    let y = builder.relu(y);
    let y = builder.conv("conv2", y, Shape::new(outputs, 3, 1), false);
    let y = builder.norm(y);
    let skip = skip(builder, x, outputs, stride);
    let y = builder.add(y, skip);
    builder.relu(y)
}

fn bottleneck(builder: &mut Builder, x: usize, width: usize, stride: usize) -> usize {
    let y = builder.conv("conv1", x, Shape::new(width, 1, 1), false);
    let y = builder.norm(y);
    let y = builder.relu(y);
    let y = builder.conv("conv2", y, Shape::new(width, 3, stride), false);
    let y = builder.norm(y);
    let y = builder.relu(y);
    let y = builder.conv("conv3", y, Shape::new(4 * width, 1, 1), false);
    let y = builder.norm(y);
    let skip = skip(builder, x, 4 * width, stride);
    let y = builder.add(y, skip);
    builder.relu(y)
}

fn skip(builder: &mut Builder, x: usize, outputs: usize, stride: usize) -> usize {
    if builder.channels(x) == outputs && stride == 1 {
        return x;
    }
    let y = builder.conv("skip", x, Shape::new(outputs, 1, stride), false);
    builder.norm(y)
}

fn mobilenet(builder: &mut Builder) {
    let mut x = builder.stem(0, Shape::new(32, 3, 2));
    x = builder.norm(x);
    x = builder.real_relu(x);
    for (outputs, stride) in mobilenet_v1_blocks::BLOCKS {
        let channels = builder.channels(x);
        let shape = Shape { groups: channels, ..Shape::new(channels, 3, stride) };
        x = builder.conv("depthwise", x, shape, false);
        x = builder.norm(x);
        x = builder.relu(x);
        x = builder.conv("pointwise", x, Shape::new(outputs, 1, 1), false);
        x = builder.norm(x);
        x = builder.relu(x);
    }
    x = builder.global_pool(x);
    builder.classifier(x, 1000);
}
