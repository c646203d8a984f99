//! Nodes whose inputs are all constants.

use super::{
    constant_shapes::{reshape, squeezed, together, transposed},
    importer::{Importer, Value},
    node::Reader,
    quantizers::Rounding,
};
use crate::{
    OnnxError,
    tensor::{Constant, Data, Grid},
};

impl Importer {
    /// Returns an input that is a constant.
    pub(super) fn constant(&self, node: &Reader<'_>, at: usize) -> Result<&Constant, OnnxError> {
        let name = node.input(at)?;
        match self.values.get(name) {
            Some(Value::Constant(constant)) => Ok(constant),
            Some(Value::Dynamic(_)) => {
                Err(node.error(format!("needs a constant as its input {name}")))
            }
            None => Err(node.error(format!("reads {name}, which no node before it computes"))),
        }
    }

    /// Whether no input depends on the image.
    pub(super) fn is_constant(&self, node: &Reader<'_>) -> bool {
        let dynamic = |name: &String| matches!(self.values.get(name), Some(Value::Dynamic(_)));
        !node.inputs().iter().any(dynamic)
    }

    /// Computes a node of constants.
    pub(super) fn fold_constants(&self, node: &Reader<'_>) -> Result<Constant, OnnxError> {
        let problem = |what: &str| node.error(what);
        let shapes = || problem("has constants whose shapes do not fit each other");
        let floats = |dims: Vec<usize>, numbers: Vec<f32>| Constant {
            dims,
            data: Data::Floats(numbers),
            grid: None,
        };
        let unary = |f: &dyn Fn(f32) -> f32| -> Result<Constant, OnnxError> {
            let x = self.constant(node, 0)?;
            Ok(floats(x.dims.clone(), x.floats().into_iter().map(f).collect()))
        };
        let binary = |f: &dyn Fn(f32, f32) -> f32| -> Result<Constant, OnnxError> {
            let (a, b) = (self.constant(node, 0)?, self.constant(node, 1)?);
            let (dims, x, y) = together(a, b).ok_or_else(shapes)?;
            Ok(floats(dims, x.into_iter().zip(y).map(|(x, y)| f(x, y)).collect()))
        };
        match node.op() {
            "Constant" => {
                if let Some(tensor) = node.tensor("value") {
                    return crate::tensor::read(tensor);
                }
                if let Some(numbers) = node.floats("value_floats").filter(|n| !n.is_empty()) {
                    return Ok(floats(vec![numbers.len()], numbers.to_vec()));
                }
                if let Some(numbers) = node.ints("value_ints").filter(|n| !n.is_empty()) {
                    return Ok(Constant::integers(numbers.to_vec()));
                }
                let number = node.float("value_float", f32::NAN);
                if !number.is_nan() {
                    return Ok(floats(vec![], vec![number]));
                }
                let number = node.int("value_int", i64::MIN);
                if number == i64::MIN {
                    return Err(problem("has no numbers"));
                }
                Ok(Constant { dims: vec![], ..Constant::integers(vec![number]) })
            }
            "Identity" | "Dropout" => self.constant(node, 0).cloned(),
            "Cast" => {
                let x = self.constant(node, 0)?.clone();
                // Types of floats are numbers as they are.
                let data = match node.int("to", 1) {
                    1 | 10 | 11 => Data::Floats(x.floats()),
                    _ => Data::Integers(x.whole()),
                };
                Ok(Constant { data, ..x })
            }
            "Add" => {
                let (a, b) = (self.constant(node, 0)?, self.constant(node, 1)?);
                if let (Data::Integers(_), Data::Integers(_)) = (&a.data, &b.data) {
                    let sum = binary(&|x, y| x + y)?;
                    return Ok(Constant { data: Data::Integers(sum.whole()), ..sum });
                }
                let sum = binary(&|x, y| x + y)?;
                Ok(self.shifted(node, sum))
            }
            "Sub" => binary(&|x, y| x - y),
            "Mul" => {
                let product = binary(&|x, y| x * y)?;
                Ok(self.scaled(node, product))
            }
            "Div" => binary(&|x, y| x / y),
            "BitShift" if node.text("direction").as_deref() == Some("RIGHT") => {
                // Each number of a column by each number of a row.
                let (x, by) = (self.constant(node, 0)?, self.constant(node, 1)?);
                let ([rows, 1], [1, columns]) = (&x.dims[..], &by.dims[..]) else {
                    return Err(shapes());
                };
                if crate::tensor::elements(&[*rows, *columns]).is_none() {
                    return Err(problem("has too many elements"));
                }
                let by = by.whole();
                let shifted =
                    |x: i64| by.iter().map(move |by| x.checked_shr(*by as u32).unwrap_or(0));
                let data = Data::Integers(x.whole().into_iter().flat_map(shifted).collect());
                Ok(Constant { dims: vec![*rows, *columns], data, grid: None })
            }
            "BitwiseAnd" => {
                let both = binary(&|x, y| f32::from(x as u8 & y as u8))?;
                Ok(Constant { data: Data::Integers(both.whole()), ..both })
            }
            "Pow" => binary(&f32::powf),
            "Sqrt" => unary(&f32::sqrt),
            "Abs" => unary(&f32::abs),
            "Neg" => unary(&|x| -x),
            "Relu" => unary(&|x| x.max(0.0)),
            "Exp" => unary(&f32::exp),
            "Reciprocal" => unary(&|x| 1.0 / x),
            "Sign" => unary(&|x| if x == 0.0 { 0.0 } else { x.signum() }),
            "Clip" => {
                let x = self.constant(node, 0)?.clone();
                let (lowest, highest) = self.limits(node)?;
                let clip = |x: f32| {
                    if x < lowest {
                        lowest
                    } else if x > highest {
                        highest
                    } else {
                        x
                    }
                };
                let numbers: Vec<f32> = x.floats().into_iter().map(clip).collect();
                let data = match &x.data {
                    Data::Floats(_) => Data::Floats(numbers),
                    Data::Integers(_) => {
                        Data::Integers(numbers.iter().map(|x| *x as i64).collect())
                    }
                };
                Ok(Constant { data, ..x })
            }
            "Transpose" => {
                let x = self.constant(node, 0)?;
                let order = match node.sides("perm")? {
                    Some(order) => order,
                    None => (0..x.dims.len()).rev().collect(),
                };
                transposed(x, &order).ok_or_else(|| problem("has an order that does not fit"))
            }
            "Reshape" => {
                let x = self.constant(node, 0)?.clone();
                let to = self.constant(node, 1)?.whole();
                let dims = reshape(&x.dims, &to, node.int("allowzero", 0) == 1);
                let dims = dims.ok_or_else(|| problem("has a shape that does not fit"))?;
                Ok(Constant { dims, ..x })
            }
            "Flatten" => {
                let x = self.constant(node, 0)?.clone();
                let axis = usize::try_from(node.int("axis", 1)).unwrap_or(usize::MAX);
                if axis > x.dims.len() {
                    return Err(problem("has an axis that does not fit"));
                }
                let dims = vec![x.dims[..axis].iter().product(), x.dims[axis..].iter().product()];
                Ok(Constant { dims, ..x })
            }
            "Unsqueeze" | "Squeeze" => {
                let x = self.constant(node, 0)?.clone();
                let axes = match node.ints("axes") {
                    Some(axes) => Some(axes.to_vec()),
                    None if node.optional(1).is_some() => Some(self.constant(node, 1)?.whole()),
                    None => None,
                };
                let dims = squeezed(&x.dims, axes.as_deref(), node.op() == "Unsqueeze");
                let dims = dims.ok_or_else(|| problem("has axes that do not fit"))?;
                Ok(Constant { dims, ..x })
            }
            "Concat" => {
                let count = node.inputs().len();
                let parts: Result<Vec<_>, _> =
                    (0..count).map(|at| self.constant(node, at)).collect();
                let parts = parts?;
                if parts.iter().any(|part| part.dims.len() != 1) {
                    return Err(problem("joins constants, which must be lists"));
                }
                let numbers: Vec<i64> = parts.iter().flat_map(|part| part.whole()).collect();
                Ok(Constant::integers(numbers))
            }
            "Gather" => {
                let (x, index) = (self.constant(node, 0)?, self.constant(node, 1)?);
                if x.dims.len() != 1 || node.int("axis", 0) != 0 {
                    return Err(problem("picks from a constant, which must be a list"));
                }
                let count = x.data.len() as i64;
                let place = |at: i64| {
                    let at = if at < 0 { at.checked_add(count)? } else { at };
                    usize::try_from(at).ok().filter(|at| *at < x.data.len())
                };
                let places: Option<Vec<usize>> = index.whole().into_iter().map(place).collect();
                let places = places.ok_or_else(|| problem("picks an element that is not there"))?;
                let data = match &x.data {
                    Data::Floats(numbers) => {
                        Data::Floats(places.into_iter().map(|at| numbers[at]).collect())
                    }
                    Data::Integers(numbers) => {
                        Data::Integers(places.into_iter().map(|at| numbers[at]).collect())
                    }
                };
                Ok(Constant { dims: index.dims.clone(), data, grid: None })
            }
            "Quant" | "IntQuant" => self.quantized_constant(node),
            "BipolarQuant" => {
                let x = self.constant(node, 0)?;
                let scale = self.constant(node, 1)?;
                let (dims, numbers, scales) = together(x, scale).ok_or_else(shapes)?;
                let integers: Vec<i32> =
                    numbers.iter().map(|x| if *x >= 0.0 { 1 } else { -1 }).collect();
                Ok(on_grid(dims, integers, scales))
            }
            "QuantizeLinear" => {
                let x = self.constant(node, 0)?.clone();
                let (scales, zeros) = self.scale_and_zero(node, &x)?;
                let (lowest, highest) = self.integer_range(node)?;
                let numbers = x.floats().into_iter().zip(&scales).zip(&zeros);
                let numbers = numbers
                    .map(|((x, scale), zero)| {
                        ((x / scale).round_ties_even() + zero).clamp(lowest, highest) as i64
                    })
                    .collect();
                Ok(Constant { data: Data::Integers(numbers), grid: None, ..x })
            }
            "DequantizeLinear" => {
                let x = self.constant(node, 0)?.clone();
                let (scales, zeros) = self.scale_and_zero(node, &x)?;
                let integers: Vec<i32> = x
                    .whole()
                    .into_iter()
                    .zip(&zeros)
                    .map(|(x, zero)| {
                        i32::try_from(x).unwrap_or(i32::MAX).saturating_sub(*zero as i32)
                    })
                    .collect();
                Ok(on_grid(x.dims, integers, scales))
            }
            op => Err(node.error(format!(
                "computes a constant by {op}, which is not known; simplify the file first (for \
                 example with onnxsim)"
            ))),
        }
    }

    /// Keeps integers where a quantized constant is multiplied by a single number.
    fn scaled(&self, node: &Reader<'_>, product: Constant) -> Constant {
        let (Ok(a), Ok(b)) = (self.constant(node, 0), self.constant(node, 1)) else {
            return product;
        };
        let found = [(a, b), (b, a)].into_iter().find_map(|(grid, factor)| {
            Some((grid.grid.as_ref()?, factor.single().filter(|factor| *factor != 0.0)?))
        });
        match found {
            Some((grid, factor)) if grid.integers.len() == product.data.len() => {
                let scales = grid.scales.iter().map(|scale| scale * factor).collect();
                let grid = Some(Grid { integers: grid.integers.clone(), scales });
                Constant { grid, ..product }
            }
            _ => product,
        }
    }

    /// Keeps integers where a whole number of half steps is added to a quantized constant.
    fn shifted(&self, node: &Reader<'_>, sum: Constant) -> Constant {
        let (Ok(a), Ok(b)) = (self.constant(node, 0), self.constant(node, 1)) else { return sum };
        let found = [(a, b), (b, a)].into_iter().find_map(|(grid, offset)| {
            let (grid, offset) = (grid.grid.as_ref()?, offset.single()?);
            let [scale] = grid.scales[..] else { return None };
            let halves = 2.0 * offset / scale;
            let whole = halves.fract() == 0.0 && halves.abs() < 1e6;
            whole.then_some((grid, halves as i32, scale))
        });
        match found {
            Some((grid, halves, scale)) if grid.integers.len() == sum.data.len() => {
                let integers =
                    grid.integers.iter().map(|i| i.saturating_mul(2).saturating_add(halves));
                let grid = Grid { integers: integers.collect(), scales: vec![scale / 2.0] };
                Constant { grid: Some(grid), ..sum }
            }
            _ => sum,
        }
    }

    /// A weight or a bias that goes through QONNX's quantizer.
    fn quantized_constant(&self, node: &Reader<'_>) -> Result<Constant, OnnxError> {
        let x = self.constant(node, 0)?;
        let (scale, zero) = (self.constant(node, 1)?, self.constant(node, 2)?);
        let bits = self.constant(node, 3)?;
        let bits = bits.single().ok_or_else(|| node.error("has several numbers of bits"))?;
        let rounding = Rounding::of(node)?;
        let shapes = || node.error("has constants whose shapes do not fit each other");
        let (dims, numbers, scales) = together(x, scale).ok_or_else(shapes)?;
        if dims != x.dims {
            return Err(shapes());
        }
        let (_, _, zeros) = together(x, zero).ok_or_else(shapes)?;
        if zeros.len() != numbers.len() {
            return Err(shapes());
        }
        let (lowest, highest) = super::quantizers::range(node, bits);
        if bits == 1.0 && node.int("signed", 1) == 1 {
            let sign = |x: f32| if x >= 0.0 { 1 } else { -1 };
            let codes = numbers.iter().zip(&scales).zip(&zeros);
            let integers = codes.map(|((x, scale), zero)| sign(x / scale + zero)).collect();
            return Ok(on_grid(dims, integers, scales));
        }
        let halves = zeros.iter().any(|zero| zero.fract() != 0.0);
        let codes: Vec<f32> = (numbers.iter().zip(&scales).zip(&zeros))
            .map(|((x, scale), zero)| rounding.apply((x / scale + zero).clamp(lowest, highest)))
            .collect();
        let whole = zeros.iter().all(|zero| (2.0 * zero).fract() == 0.0);
        if bits > 16.0 || !whole || codes.iter().any(|code| code.is_nan()) {
            let values = (codes.iter().zip(&zeros).zip(&scales))
                .map(|((code, zero), scale)| (code - zero) * scale)
                .collect();
            return Ok(Constant { dims, data: Data::Floats(values), grid: None });
        }
        let factor = if halves { 2.0 } else { 1.0 };
        let integers =
            codes.iter().zip(&zeros).map(|(code, zero)| ((code - zero) * factor) as i32).collect();
        let scales = scales.into_iter().map(|scale| scale / factor).collect();
        Ok(on_grid(dims, integers, scales))
    }
}

/// Returns a constant of these integers times scales.
fn on_grid(dims: Vec<usize>, integers: Vec<i32>, scales: Vec<f32>) -> Constant {
    let values = integers.iter().zip(&scales).map(|(i, scale)| *i as f32 * scale).collect();
    let one = scales.iter().all(|scale| *scale == scales[0]);
    let scales = if one { scales[..scales.len().min(1)].to_vec() } else { scales };
    Constant { dims, data: Data::Floats(values), grid: Some(Grid { integers, scales }) }
}
