//! docs/qnet.md describes the files that this crate writes.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod models;

use models::{conv, node};
use quant_infer::{
    file::{ALIGNMENT, File, MAGIC, MINOR_VERSION, VERSION, WEIGHT_ALIGNMENT},
    model::{Dynamic, Input, Model, Op, Pool, Quantizer, Term, Terms, Weight, WeightCodes},
};

fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/qnet.md");
    std::fs::read_to_string(path).unwrap()
}

/// The cells of all rows of the page's tables.
fn rows(page: &str) -> Vec<Vec<&str>> {
    let rows = page.lines().filter_map(|line| line.strip_prefix('|'));
    rows.map(|row| row.trim_end_matches('|').split('|').map(str::trim).collect()).collect()
}

fn signs() -> Quantizer {
    Quantizer {
        groups: 1,
        levels: 2,
        thresholds: vec![0.0],
        values: vec![-0.5, 0.5],
        terms: Some(Terms(vec![Term { scales: vec![0.5], integers: vec![-1, 1] }])),
        dynamic: Dynamic::None,
    }
}

/// The example of the page: signs, and two output channels of five ternary weights.
fn example() -> Model {
    let codes = vec![2, 1, 0, 0, 1, 2, 2, 2, 1, 0];
    let terms = Terms(vec![Term { scales: vec![0.25], integers: vec![-1, 0, 1] }]);
    let weight = WeightCodes {
        levels: 3,
        codes,
        groups: 1,
        run: 10,
        values: vec![-0.25, 0.0, 0.25],
        terms: Some(terms),
    };
    let mut linear = conv([5, 2], 1, 1, Weight::Codes(weight));
    linear.quantizer = Some(signs());
    linear.bias = Some(vec![1.0, -1.0]);
    Model {
        name: "tiny".into(),
        producer: "page".into(),
        classes: vec!["cat".into(), "dog".into()],
        input: Input {
            size: [1, 1],
            shorter_side: None,
            scale: vec![1.0; 5],
            shift: vec![-1.0; 5],
        },
        nodes: vec![node("input", Op::Input, &[]), node("fc", Op::Conv(Box::new(linear)), &[0])],
    }
}

#[test]
fn the_example_is_a_file() {
    let bytes = example().to_bytes();
    let dump = bytes.chunks(16).enumerate().map(|(line, bytes)| {
        let text = bytes.iter().map(|byte| format!(" {byte:02x}")).collect::<String>();
        format!("{:03x} {text}\n", 16 * line)
    });
    let dump: String = dump.collect();
    assert!(page().contains(&dump), "the page should have this example:\n{dump}");
    assert_eq!(Model::from_bytes(&bytes), Ok(example()));
}

#[test]
fn the_example_s_parts_are_where_the_page_says() {
    let bytes = example().to_bytes();
    let page = page();
    let part = |name: &str| {
        let row = rows(&page).into_iter().find(|row| row.last() == Some(&name)).unwrap();
        let offset = usize::from_str_radix(row[0], 16).unwrap();
        let hex: String = row[1].chars().filter(|c| !"` ".contains(*c)).collect();
        let part: Vec<u8> = (0..hex.len() / 2)
            .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
            .collect();
        assert_eq!(bytes[offset..offset + part.len()], part, "{name}");
        part
    };
    assert_eq!(part("the file's length"), (bytes.len() as u64).to_le_bytes());
    assert_eq!(part("the bias, 1 and -1"), [2, 0, 0, 128, 63, 0, 0, 128, 191]);
    let file = File::parse(&bytes).unwrap();
    assert_eq!(part("the codes 2 1 0 0 1 and 2 2 2 1 0"), file.nodes()[1].weight.unwrap().bytes);
    // Every other row of this table too.
    let table = page.split("## Example").nth(1).unwrap();
    let names: Vec<_> = rows(table).into_iter().skip(2).map(|row| row[2]).collect();
    assert!(names.len() > 20);
    names.into_iter().for_each(|name| drop(part(name)));
}

#[test]
fn the_checksum_leaves_itself_out() {
    let bytes = example().to_bytes();
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..12]);
    hasher.update(&bytes[16..]);
    assert_eq!(bytes[12..16], hasher.finalize().to_le_bytes());
}

#[test]
fn constants_are_those_of_the_page() {
    let page = page();
    let page = page.replace('\n', " ");
    let magic: String = MAGIC.iter().map(|byte| format!("{byte:02x} ")).collect();
    assert!(page.contains(&format!("| 0 | 8 bytes | `{}`", magic.trim_end())));
    assert!(page.contains(&format!("| 8 | u16 | version, 1 or {VERSION} |")));
    assert!(page.contains(&format!("| 10 | u16 | minor version, {MINOR_VERSION} |")));
    assert!(page.contains(&format!("Sections begin at multiples of {ALIGNMENT} bytes")));
    assert!(page.contains(&format!("at the next multiple of {WEIGHT_ALIGNMENT} bytes")));
}

/// The byte of an operation's kind: that after the name and inputs of the second node of a network
/// without names, whose input has one channel.
fn kind(op: Op) -> u8 {
    let input = Input { size: [1, 1], shorter_side: None, scale: vec![1.0], shift: vec![0.0] };
    let nodes = vec![node("", Op::Input, &[]), node("", op, &[0])];
    let (name, producer) = (String::new(), String::new());
    let model = Model { name, producer, classes: Vec::new(), input, nodes };
    model.to_bytes()[64 + 17 + 4 + 4]
}

#[test]
fn kinds_of_nodes_are_those_of_the_page() {
    let list = || vec![1.0];
    let ops = [
        Op::Input,
        Op::Conv(Box::new(conv([1, 1], 1, 1, Weight::Float(list())))),
        Op::Quantize(Box::new(signs())),
        Op::Affine { scale: list(), shift: list() },
        Op::AddScalar(1.0),
        Op::MulScalar(1.0),
        Op::Relu,
        Op::Relu6,
        Op::LeakyRelu(1.0),
        Op::RPRelu { before: list(), slope: list(), after: list() },
        Op::GroupNorm(1),
        Op::AveragePool(1),
        Op::MaxPool(Pool { kernel: 1, stride: 1, padding: 0, ceil: false }),
        Op::GlobalPool,
        Op::SpaceToDepth(1),
        Op::DepthToSpace(1),
        Op::Pad(1),
        Op::Repeat(1),
        Op::Concatenate,
        Op::Add,
        Op::Flatten,
    ];
    let page = page();
    for (i, op) in ops.into_iter().enumerate() {
        let text = format!("{op:?}");
        let name = text.split([' ', '(']).next().unwrap();
        let kind = kind(op);
        assert_eq!(usize::from(kind), i);
        let (number, name) = (kind.to_string(), format!("`{name}`"));
        let found = rows(&page).iter().any(|row| row[0] == number && row[1] == name);
        assert!(found, "the page has no row of the kind {number}, {name}");
    }
}

#[test]
fn kinds_of_quantizers_are_those_of_the_page() {
    let page = page();
    let all = [
        Dynamic::None,
        Dynamic::MeanOverChannels,
        Dynamic::MeanOverPositions,
        Dynamic::Mean,
        Dynamic::Deviation,
    ];
    for dynamic in all {
        let input = Input { size: [1, 1], shorter_side: None, scale: vec![1.0], shift: vec![0.0] };
        let quantizer = Op::Quantize(Box::new(Quantizer { dynamic, ..signs() }));
        let nodes = vec![node("", Op::Input, &[]), node("", quantizer, &[0])];
        let (name, producer) = (String::new(), String::new());
        let model = Model { name, producer, classes: Vec::new(), input, nodes };
        let byte = model.to_bytes()[64 + 17 + 4 + 5].to_string();
        let name = format!("`Dynamic::{dynamic:?}`");
        assert!(rows(&page).iter().any(|row| row[0] == byte && row[1] == name), "{byte} {name}");
    }
}

/// Returns the smallest float whose code is more than 0, that whose code is more than 1, and so on.
fn thresholds(levels: usize, code: impl Fn(f32) -> f32) -> Vec<f32> {
    let float = |place: i64| {
        let bits = place.unsigned_abs() as u32;
        f32::from_bits(if place < 0 { bits | 1 << 31 } else { bits })
    };
    let threshold = |k: usize| {
        let end = i64::from(f32::MAX.to_bits());
        let (mut low, mut high) = (-end, end);
        while high - low > 1 {
            let middle = low.midpoint(high);
            if code(float(middle)) > k as f32 { high = middle } else { low = middle }
        }
        float(high)
    };
    (0..levels - 1).map(threshold).collect()
}

/// The file of a quantizer alone.
fn quantizer_file(thresholds: Vec<f32>, values: Vec<f32>) -> Vec<u8> {
    let input = Input { size: [1, 1], shorter_side: None, scale: vec![1.0], shift: vec![0.0] };
    let levels = values.len();
    let dynamic = Dynamic::None;
    let quantizer = Quantizer { groups: 1, levels, thresholds, values, terms: None, dynamic };
    let quantizer = Op::Quantize(Box::new(quantizer));
    let nodes = vec![node("", Op::Input, &[]), node("", quantizer, &[0])];
    let (name, producer) = (String::new(), String::new());
    Model { name, producer, classes: Vec::new(), input, nodes }.to_bytes()
}

#[test]
fn formulas_are_those_of_the_page() {
    let page = page();
    let (s, o, n) = (0.75f32, -0.3f32, 255.0f32);
    let code: [(&str, &dyn Fn(f32) -> f32); 4] = [
        ("R(x/s·n)", &|x| (x / s * n).round_ties_even()),
        ("R((x/s + 1)·0.5·n)", &|x| ((x / s + 1.0) * 0.5 * n).round_ties_even()),
        ("R(x/s) + n - (n/2 rounded down)", &|x| (x / s).round_ties_even() + n - 127.0),
        ("R((x - o)/s)", &|x| ((x - o) / s).round_ties_even()),
    ];
    let value: [(&str, &dyn Fn(f32) -> f32); 5] = [
        ("c/n·s", &|c| c / n * s),
        ("(c/n·2 - 1)·s", &|c| (c / n * 2.0 - 1.0) * s),
        ("(c - (n - (n/2 rounded down)))·s", &|c| (c - (n - 127.0)) * s),
        ("c·s", &|c| c * s),
        ("c·s + o", &|c| c * s + o),
    ];
    let of = |value: &dyn Fn(f32) -> f32| (0..256).map(|c| value(c as f32)).collect::<Vec<_>>();
    let has = |file: &[u8], part: &[u8]| file.windows(part.len()).any(|bytes| bytes == part);
    let row = |kind: u8, number: usize, has_offset: bool| {
        let mut row = vec![kind, 1, number as u8];
        row.extend(s.to_le_bytes());
        row.extend(has_offset.then(|| o.to_le_bytes()).into_iter().flatten());
        row
    };
    let is_in_table = |number: usize, text: &str| {
        rows(&page).iter().any(|row| row[0] == number.to_string() && row[1] == text)
    };
    for (number, (text, code)) in code.into_iter().enumerate() {
        // The formula with an offset has that of the values.
        let values = of(value[if number == 3 { 4 } else { number }].1);
        let file = quantizer_file(thresholds(256, code), values);
        assert_eq!(file[8], 2);
        assert!(has(&file, &row(3, number, number == 3)), "{text}");
        assert!(is_in_table(number, text), "{text}");
    }
    for (number, (text, value)) in value.into_iter().enumerate() {
        let file = quantizer_file(thresholds(256, code[0].1), of(value));
        assert!(has(&file, &row(5, number, number == 4)), "{text}");
        assert!(is_in_table(number, text), "{text}");
    }
    for row in [row(3, 0, false), row(5, 0, false)] {
        let hex: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(page.contains(&hex.join(" ")), "{hex:?}");
    }
}

#[test]
fn the_table_of_packings_is_true() {
    let page = page();
    let table = page.split("### Codes").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut count = 0;
    for row in rows(table).into_iter().skip(2) {
        let [levels, bytes, codes] = [0, 1, 2].map(|i| row[i].parse::<usize>().unwrap());
        let mut model = example();
        let Op::Conv(layer) = &mut model.nodes[1].op else { panic!() };
        let Weight::Codes(weight) = &mut layer.weight else { panic!() };
        weight.levels = levels;
        let file = model.to_bytes();
        let packing = File::parse(&file).unwrap().nodes()[1].weight.unwrap().packing().unwrap();
        assert_eq!((packing.bytes(), packing.codes()), (bytes, codes), "{levels} levels");
        count += 1;
    }
    assert!(count >= 12, "{count} rows");
}
