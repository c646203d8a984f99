//! Runs images through a packed network, and writes the codes of all quantizers:
//! `trace net.qnet images.bin folder`.
//!
//! `images.bin` has the bytes `[images, channels, height, width]`. The folder gets `scores.bin`,
//! floats `[images, classes]`; the files `<number>.bin` and `<number>.values.bin` for each
//! quantizer, the codes as bytes and what they stand for as floats, `[images, channels, height,
//! width]`; and `names.txt`, whose lines have a quantizer's number, a tab and its name.

use std::{env, error::Error, fs, path::Path};

use quant_infer::{
    Image, Network,
    model::{Model, Op},
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [network, images, folder] = &arguments[..] else {
        return Err("usage: trace net.qnet images.bin folder".into());
    };
    let model = Model::load(network)?;
    let network = Network::new(&model)?;
    let images = fs::read(images)?;
    let size = model.input.size;
    let length = model.input.scale.len() * size[0] * size[1];
    let quantizes = |op: &Op| match op {
        Op::Conv(conv) => conv.quantizer.is_some(),
        Op::Quantize(_) => true,
        _ => false,
    };
    let nodes: Vec<usize> =
        (0..model.nodes.len()).filter(|at| quantizes(&model.nodes[*at].op)).collect();
    let mut codes = vec![Vec::new(); nodes.len()];
    let mut scores: Vec<u8> = Vec::new();
    let mut session = network.session();
    nodes.iter().for_each(|at| session.watch(*at));
    for image in images.chunks_exact(length) {
        let found = session.run(&Image::planar(image, size))?;
        scores.extend(found.iter().flat_map(|score| score.to_le_bytes()));
        for (at, found) in nodes.iter().zip(&mut codes) {
            found.extend_from_slice(session.codes(*at).unwrap_or_default());
        }
    }
    let shapes = model.shapes(size)?;
    let folder = Path::new(folder);
    fs::create_dir_all(folder)?;
    fs::write(folder.join("scores.bin"), scores)?;
    let mut names = String::new();
    for (at, codes) in nodes.iter().zip(codes) {
        let values = values(&model.nodes[*at].op, &codes, shapes[model.nodes[*at].inputs[0]]);
        fs::write(folder.join(format!("{at}.values.bin")), values)?;
        fs::write(folder.join(format!("{at}.bin")), codes)?;
        names += &format!("{at}\t{}\n", model.nodes[*at].name);
    }
    fs::write(folder.join("names.txt"), names)?;
    Ok(())
}

/// Returns what the codes of images stand for.
fn values(op: &Op, codes: &[u8], [channels, height, width]: [usize; 3]) -> Vec<u8> {
    let quantizer = match op {
        Op::Conv(conv) => conv.quantizer.as_ref(),
        Op::Quantize(quantizer) => Some(&**quantizer),
        _ => None,
    };
    let Some(quantizer) = quantizer else { return Vec::new() };
    let value = |(at, code): (usize, &u8)| {
        let channel = at / (height * width) % channels;
        quantizer.value_of(quantizer.group_of(channel, channels), *code)
    };
    codes.iter().enumerate().map(value).flat_map(f32::to_le_bytes).collect()
}
