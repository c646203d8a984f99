//! The hand-written backward pass, for every backend and checkpointing strategy.

use burn::{
    backend::{
        AutodiffBackend, Backend,
        autodiff::{
            Autodiff, NodeId,
            checkpoint::{
                base::Checkpointer,
                retro_forward::RetroForward,
                state::BackwardStates,
                strategy::{BalancedCheckpointing, CheckpointStrategy},
            },
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        tensor::FloatTensor,
    },
    tensor::FloatDType,
};

use super::{Call, Elementwise, QuantOps};

#[derive(Debug)]
struct QuantizeBackward;

/// The state that the backward pass needs: the inputs, and how to differentiate.
#[derive(Debug, Clone)]
struct State<T> {
    /// The node of the input. Its value is kept, or computed again where the input is itself
    /// recomputed.
    x: NodeId,
    parameters: T,
    operation: Elementwise,
    parameter_gradient_scale: f32,
}

impl<B: Backend + QuantOps> Backward<B, 2> for QuantizeBackward {
    type State = State<FloatTensor<B>>;

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let [node_x, node_parameters] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        let s = ops.state;
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(s.x);
        let (grad_x, grad_parameters) = B::fake_quantize_backward(
            x,
            s.parameters,
            grad,
            s.operation,
            s.parameter_gradient_scale,
        );
        if let Some(node) = node_x {
            grads.register::<B>(node.id, grad_x);
        }
        if let Some(node) = node_parameters {
            grads.register::<B>(node.id, grad_parameters);
        }
    }
}

/// Computes the quantized values again when the backward pass asks for them. Operations that follow
/// a quantizer, such as a convolution, then need not keep the values.
#[derive(Debug)]
struct RecomputeQuantized<B: Backend> {
    x: Source<B>,
    parameters: Source<B>,
    operation: Elementwise,
    output: FloatDType,
}

/// The source of an input in the backward pass.
#[derive(Debug)]
pub(super) enum Source<B: Backend> {
    /// The input is a node of the graph.
    Node(NodeId),
    /// The input is a constant.
    Constant(FloatTensor<B>),
}

impl<B: Backend> Source<B> {
    pub(super) fn of<C: CheckpointStrategy>(tensor: &FloatTensor<Autodiff<B, C>>) -> Self {
        if tensor.is_tracked() {
            Source::Node(tensor.id())
        } else {
            Source::Constant(tensor.primitive().clone())
        }
    }

    pub(super) fn value(&self, states: &mut BackwardStates) -> FloatTensor<B> {
        match self {
            Source::Node(id) => states.get_state::<FloatTensor<B>>(id),
            Source::Constant(tensor) => tensor.clone(),
        }
    }
}

impl<B: Backend + QuantOps> RetroForward for RecomputeQuantized<B> {
    fn forward(&self, states: &mut BackwardStates, out_node: NodeId) {
        let (x, parameters) = (self.x.value(states), self.parameters.value(states));
        states.save(out_node, B::fake_quantize(x, parameters, self.operation, self.output));
    }
}

#[derive(Debug)]
struct EstimatedBackward;

impl<B: Backend + QuantOps> Backward<B, 1> for EstimatedBackward {
    /// The slope, and whether gradients are scaled element by element.
    type State = (FloatTensor<B>, bool);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let [node] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        let (slope, scaled) = ops.state;
        let Some(node) = node else {
            return;
        };
        let slope = if scaled {
            let signed = B::float_mul(B::float_sign(grad.clone()), slope);
            B::float_add_scalar(signed, 1f32.into())
        } else {
            slope
        };
        grads.register::<B>(node.id, B::float_mul(grad, slope));
    }
}

impl<B: Backend + QuantOps, C: CheckpointStrategy> QuantOps for Autodiff<B, C> {
    fn estimated_tracked(
        value: FloatTensor<Self>,
        x: FloatTensor<Self>,
        slope: FloatTensor<Self>,
        scaled: bool,
    ) -> FloatTensor<Self> {
        let value = value.into_primitive();
        match EstimatedBackward.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((slope.into_primitive(), scaled), value),
            OpsKind::UnTracked(prepared) => prepared.finish(value),
        }
    }

    fn fake_quantize(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        operation: Elementwise,
        output: FloatDType,
    ) -> FloatTensor<Self> {
        let call = Call { parameter_gradient_scale: 1.0, output, keeps_result: false };
        Self::fake_quantize_tracked(x, parameters, operation, call)
    }

    fn fake_quantize_tracked(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        operation: Elementwise,
        call: Call,
    ) -> FloatTensor<Self> {
        let Call { parameter_gradient_scale, output, keeps_result } = call;
        // Without tracked inputs the result is a constant, and the graph has no node that could
        // compute it again.
        if !x.is_tracked() && !parameters.is_tracked() {
            let (x, parameters) = (x.into_primitive(), parameters.into_primitive());
            return Self::from_inner(B::fake_quantize(x, parameters, operation, output));
        }
        let recompute = RecomputeQuantized {
            x: Source::of::<C>(&x),
            parameters: Source::of::<C>(&parameters),
            operation,
            output,
        };
        let prepared =
            QuantizeBackward.prepare::<BalancedCheckpointing>([x.node(), parameters.node()]);
        // Recomputing is used whatever the strategy of the other operations, because the values are
        // cheap to compute and those of activations are large to keep.
        let prepared = if keeps_result {
            prepared.compute_bound()
        } else {
            let tracked = [&x, &parameters].into_iter().filter(|tensor| tensor.is_tracked());
            prepared.memory_bound().retro_forward(recompute).parents(tracked)
        };
        match prepared.stateful() {
            OpsKind::Tracked(mut prepared) => {
                let kept = prepared.checkpoint(&x);
                let (x, parameters) = (x.into_primitive(), parameters.into_primitive());
                let out = B::fake_quantize(x, parameters.clone(), operation, output);
                let state = State { x: kept, parameters, operation, parameter_gradient_scale };
                prepared.finish(state, out)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::fake_quantize(
                x.into_primitive(),
                parameters.into_primitive(),
                operation,
                output,
            )),
        }
    }
}
