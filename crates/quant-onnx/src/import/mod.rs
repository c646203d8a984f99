//! ONNX files become models.
use crate::OnnxError;
use quant_infer::model::Model;
#[derive(Debug,Clone,Default)]
pub struct ImportOptions{}
#[derive(Debug,Clone)]
pub struct Imported{pub model:Model}
pub fn import(_:&[u8],_:&ImportOptions)->Result<Imported,OnnxError>{ Err(OnnxError::File("x".into()))}
