//! The hand-written backward passes of the operations.

use burn::backend::{
    AutodiffBackend, Backend,
    autodiff::{
        Autodiff, NodeId,
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    tensor::FloatTensor,
};

use quant_kernels::conv::Geometry;

use super::flex::TrainingOps;

#[derive(Debug)]
struct ReluBackward;

impl<B: Backend + TrainingOps> Backward<B, 1> for ReluBackward {
    /// The result.
    type State = FloatTensor<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let [node] = ops.parents;
        let gradient = grads.consume::<B>(&ops.node);
        if let Some(node) = node {
            grads.register::<B>(node.id, B::training_relu_backward(ops.state, gradient));
        }
    }
}

#[derive(Debug)]
struct Conv2dBackward;

impl<B: Backend + TrainingOps> Backward<B, 2> for Conv2dBackward {
    /// The nodes of x and weight, if a gradient needs them. Their values are kept, or computed
    /// again.
    type State = ([Option<NodeId>; 2], Geometry);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let [x_node, weight_node] = ops.parents;
        let gradient = grads.consume::<B>(&ops.node);
        let ([x, weight], geometry) = ops.state;
        let mut value = |id: NodeId| checkpointer.retrieve_node_output::<FloatTensor<B>>(id);
        let (x, weight) = (x.map(&mut value), weight.map(&mut value));
        if let (Some(node), Some(x)) = (weight_node, x) {
            grads.register::<B>(
                node.id,
                B::training_conv2d_weight_gradient(x, gradient.clone(), geometry),
            );
        }
        if let (Some(node), Some(weight)) = (x_node, weight) {
            grads.register::<B>(
                node.id,
                B::training_conv2d_input_gradient(weight, gradient, geometry),
            );
        }
    }
}

impl<B: Backend + TrainingOps, C: CheckpointStrategy> TrainingOps for Autodiff<B, C> {
    fn training_conv2d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node()];
        match Conv2dBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let for_weight = weight.is_tracked().then(|| prepared.checkpoint(&x));
                let for_x = x.is_tracked().then(|| prepared.checkpoint(&weight));
                let y = B::training_conv2d(x.into_primitive(), weight.into_primitive(), geometry);
                prepared.finish(([for_weight, for_x], geometry), y)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::training_conv2d(
                x.into_primitive(),
                weight.into_primitive(),
                geometry,
            )),
        }
    }

    fn training_relu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let node = x.node();
        let y = B::training_relu(x.into_primitive());
        match ReluBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(y.clone(), y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        }
    }

    fn training_conv2d_input_gradient(
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        let (weight, gradient) = (weight.into_primitive(), gradient.into_primitive());
        Self::from_inner(B::training_conv2d_input_gradient(weight, gradient, geometry))
    }

    fn training_conv2d_weight_gradient(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        let (x, gradient) = (x.into_primitive(), gradient.into_primitive());
        Self::from_inner(B::training_conv2d_weight_gradient(x, gradient, geometry))
    }

    fn training_relu_backward(
        y: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::from_inner(B::training_relu_backward(y.into_primitive(), gradient.into_primitive()))
    }
}
