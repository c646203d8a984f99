//! Reads pickles, Python's serialised objects, as plain data.
//!
//! A pickle is a program for a machine with a stack and a memo; Python's module `pickletools`
//! describes its operations. This module has the operations of protocols 0 to 5 that plain data and
//! NumPy's arrays need. Python would import and call the functions that a pickle names; here a
//! [`Value::Call`] only records the call. Texts remain slices of the pickle's bytes, and values
//! refer to one another by number, so that each operation takes little memory, whatever the pickle
//! says.

mod text;

use std::{borrow::Cow, collections::HashMap};

use self::text::{Form, Text};

/// The largest number of operations, which bounds the memory for all values. CIFAR's largest file
/// has about a tenth as many.
const MOST_OPERATIONS: usize = 1 << 22;

/// The largest length in bytes of a name, a key or a single number as it is written in the pickle.
const LONGEST_NAME: usize = 256;

/// The newest protocol of Python.
const HIGHEST_PROTOCOL: u8 = 5;

/// Number of a value in its pickle.
pub(super) type Id = usize;

/// A value in a pickle.
#[derive(Debug)]
pub(super) enum Value<'a> {
    /// An integer or a boolean.
    Int(i64),
    /// None, or a number that is not a 64-bit integer.
    Other,
    /// Bytes or a text.
    Text(Text<'a>),
    /// A list or a tuple.
    List(Vec<Id>),
    /// A dictionary, as pairs of a key and a value.
    Dict(Vec<(Id, Id)>),
    /// The name of a function or a class.
    Global {
        /// Name of the module, a text.
        module: Id,
        /// Name of the function or class, a text.
        name: Id,
    },
    /// An object, as the call with which Python would create it.
    Call {
        /// The function that would be called, a global.
        function: Id,
        /// The arguments, a list.
        arguments: Id,
        /// The state that the object would be given after its creation.
        state: Option<Id>,
    },
}

/// A pickle that has been read.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    values: Vec<Value<'a>>,
    /// The value that the pickle stands for.
    pub(super) root: Id,
}

impl<'a> Pickle<'a> {
    /// Reads a pickle.
    ///
    /// # Errors
    /// If the pickle is invalid: the byte and the reason.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let mut machine = Machine { bytes, ..Machine::default() };
        for _ in 0..MOST_OPERATIONS {
            let start = machine.at;
            match machine.step() {
                Ok(None) => {}
                Ok(Some(root)) => return Ok(Self { values: machine.values, root }),
                Err(reason) => return Err(format!("at byte {start} of the pickle: {reason}")),
            }
        }
        Err(format!("the pickle has more than {MOST_OPERATIONS} operations"))
    }

    /// Returns the value with number `id`.
    pub(super) fn value(&self, id: Id) -> &Value<'a> {
        &self.values[id]
    }

    /// Returns a short text, such as a name; `None` if it is long. Many values may share one long
    /// text, and each use of it would take a long time.
    pub(super) fn text(&self, id: Id) -> Option<Cow<'a, [u8]>> {
        self.text_of(id, LONGEST_NAME)
    }

    /// Returns a text of any length. The forms are those of [`text_of`](Self::text_of).
    pub(super) fn bytes(&self, id: Id) -> Option<Cow<'a, [u8]>> {
        self.text_of(id, usize::MAX)
    }

    /// Returns the bytes of a text, in any of the forms that Python writes, if it takes at most
    /// `longest` bytes in the pickle. Unicode becomes UTF-8. With a protocol below 3, Python 3
    /// writes bytes as a call that encodes a text.
    fn text_of(&self, id: Id, longest: usize) -> Option<Cow<'a, [u8]>> {
        let Value::Call { function, arguments, .. } = self.value(id) else {
            return self.plain(id, longest);
        };
        let Value::Global { module, name: name_of } = self.value(*function) else {
            return None;
        };
        let name = |id| self.plain(id, LONGEST_NAME);
        let module = name(*module)?;
        match (&*module, &*name(*name_of)?, self.list(*arguments)?) {
            (b"_codecs", b"encode", [text, encoding]) => {
                let latin1 = matches!(&*name(*encoding)?, b"latin1" | b"latin-1" | b"iso-8859-1");
                let text = self.plain(*text, longest).filter(|_| latin1)?;
                let letters = std::str::from_utf8(&text).ok()?.chars();
                let bytes = letters.map(|letter| u8::try_from(u32::from(letter)).ok());
                bytes.collect::<Option<Vec<u8>>>().map(Cow::Owned)
            }
            (b"__builtin__" | b"builtins", b"bytes", []) => Some(Cow::Borrowed(&[])),
            _ => None,
        }
    }

    fn plain(&self, id: Id, longest: usize) -> Option<Cow<'a, [u8]>> {
        match self.value(id) {
            Value::Text(text) if text.written.len() <= longest => Some(text.bytes()),
            _ => None,
        }
    }

    /// Returns the elements of a list or tuple.
    pub(super) fn list(&self, id: Id) -> Option<&[Id]> {
        match self.value(id) {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// Returns the value of a dictionary for a key that is a text.
    pub(super) fn entry(&self, id: Id, key: &str) -> Option<Id> {
        let Value::Dict(entries) = self.value(id) else {
            return None;
        };
        // If a key occurs several times, the last value counts.
        let mut entries = entries.iter().rev();
        let has_key = |id| self.text(id).is_some_and(|text| *text == *key.as_bytes());
        entries.find(|(id, _)| has_key(*id)).map(|(_, value)| *value)
    }
}

/// The machine that executes a pickle.
#[derive(Default)]
struct Machine<'a> {
    bytes: &'a [u8],
    /// Index of the next operation's byte.
    at: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack at which marks were set.
    marks: Vec<usize>,
    memo: HashMap<usize, Id>,
}

impl<'a> Machine<'a> {
    /// Executes one operation. Returns the result of the pickle after the last one.
    fn step(&mut self) -> Result<Option<Id>, String> {
        let code = self.byte()?;
        match code {
            b'.' => return self.pop().map(Some),
            0x80 => {
                let protocol = self.byte()?;
                if protocol > HIGHEST_PROTOCOL {
                    return Err(format!("protocol {protocol}: expected 0 to {HIGHEST_PROTOCOL}"));
                }
            }
            // The length of a frame is only needed when a pickle is read from a stream.
            0x95 => drop(self.take(8)?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' if self.marks.last() == Some(&self.stack.len()) => drop(self.marks.pop()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => self.stack.push(self.top()?),
            b'p' | b'q' | b'r' | 0x94 => {
                let place = match code {
                    0x94 => self.memo.len(),
                    _ => self.memo_place(code)?,
                };
                self.memo.insert(place, self.top()?);
            }
            b'g' | b'h' | b'j' => {
                let place = self.memo_place(if code == b'g' { b'p' } else { code })?;
                let value = self.memo.get(&place);
                self.stack.push(*value.ok_or_else(|| format!("the memo has no value {place}"))?);
            }
            b'N' | b'F' | b'G' | b'I' | b'J' | b'K' | b'M' | b'L' | 0x88..=0x8b => {
                let value = self.number(code)?;
                self.push(value);
            }
            b'S' | b'T' | b'U' | b'V' | b'X' | b'B' | b'C' | 0x8c..=0x8e | 0x96 => {
                let text = self.text(code)?;
                self.push(Value::Text(text));
            }
            b'a' | b'e' | b's' | b'u' | b'b' => self.change(code)?,
            _ => self.structure(code)?,
        }
        Ok(None)
    }

    /// Executes an operation that makes a value of others.
    fn structure(&mut self, code: u8) -> Result<(), String> {
        let value = match code {
            b']' | b')' => Value::List(Vec::new()),
            b'}' => Value::Dict(Vec::new()),
            b'l' | b't' => Value::List(self.pop_mark()?),
            0x85..=0x87 => {
                let start = self.stack.len().checked_sub(usize::from(code - 0x84));
                let start = start.filter(|start| *start >= self.bottom()).ok_or(UNDERFLOW)?;
                Value::List(self.stack.split_off(start))
            }
            b'd' => Value::Dict(pairs(&self.pop_mark()?)?),
            b'c' => {
                let [module, name] = [self.line()?, self.line()?].map(|written| {
                    self.values.push(Value::Text(Text { written, form: Form::Plain }));
                    self.values.len() - 1
                });
                Value::Global { module, name }
            }
            0x93 => {
                let name = self.pop()?;
                Value::Global { module: self.pop()?, name }
            }
            // The operations are `REDUCE` and `NEWOBJ`.
            b'R' | 0x81 => {
                let arguments = self.pop()?;
                Value::Call { function: self.pop()?, arguments, state: None }
            }
            code => {
                return Err(format!(
                    "operation {code:#04x} is not one that plain data or NumPy's arrays need"
                ));
            }
        };
        self.push(value);
        Ok(())
    }

    /// Executes an operation that adds the values it takes from the stack to the value below them.
    fn change(&mut self, code: u8) -> Result<(), String> {
        let items = match code {
            b'a' | b'b' => vec![self.pop()?],
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.pop_mark()?,
        };
        let top = self.top()?;
        match (code, &mut self.values[top]) {
            (b'a' | b'e', Value::List(list)) => list.extend(items),
            (b's' | b'u', Value::Dict(dict)) => dict.extend(pairs(&items)?),
            (b'b', Value::Call { state, .. }) => *state = items.first().copied(),
            (b'a' | b'e', _) => return Err("it appends to a value that is not a list".into()),
            (b's' | b'u', _) => {
                return Err("it sets items of a value that is not a dictionary".into());
            }
            _ => return Err("it sets the state of a value that is not an object".into()),
        }
        Ok(())
    }

    fn number(&mut self, code: u8) -> Result<Value<'a>, String> {
        let little_endian = |bytes: &[u8]| {
            let negative = bytes.last().is_some_and(|last| *last >= 0x80);
            let mut all = [if negative { 0xff } else { 0 }; 8];
            all[..bytes.len()].copy_from_slice(bytes);
            Value::Int(i64::from_le_bytes(all))
        };
        Ok(match code {
            b'J' => little_endian(self.take(4)?),
            b'K' => Value::Int(self.byte()?.into()),
            b'M' => Value::Int(self.length(2)? as i64),
            0x88 | 0x89 => Value::Int(i64::from(code == 0x88)),
            // Protocol 0 writes booleans as the integers 00 and 01.
            b'I' | b'L' => {
                let line = String::from_utf8_lossy(self.line()?);
                let digits = line.trim().trim_end_matches('L');
                digits.parse().map_or(Value::Other, Value::Int)
            }
            0x8a | 0x8b => {
                let length = self.length(if code == 0x8a { 1 } else { 4 })?;
                let bytes = self.take(length)?;
                if bytes.len() <= 8 { little_endian(bytes) } else { Value::Other }
            }
            b'F' => {
                self.line()?;
                Value::Other
            }
            b'G' => {
                self.take(8)?;
                Value::Other
            }
            _ => Value::Other,
        })
    }

    fn text(&mut self, code: u8) -> Result<Text<'a>, String> {
        let length_bytes = match code {
            b'S' => return Ok(Text { written: self.line()?, form: Form::Quoted }),
            b'V' => return Ok(Text { written: self.line()?, form: Form::Escaped }),
            b'U' | b'C' | 0x8c => 1,
            0x8d | 0x8e | 0x96 => 8,
            _ => 4,
        };
        let length = self.length(length_bytes)?;
        Ok(Text { written: self.take(length)?, form: Form::Plain })
    }

    /// Returns the index in the memo that an operation names.
    fn memo_place(&mut self, code: u8) -> Result<usize, String> {
        match code {
            b'p' => {
                let line = String::from_utf8_lossy(self.line()?);
                line.trim().parse().map_err(|_| format!("{line:?} is not an index of the memo"))
            }
            b'q' | b'h' => self.length(1),
            _ => self.length(4),
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..count).ok_or_else(|| {
            format!("it is cut off: {count} bytes are expected and {} are left", rest.len())
        })?;
        self.at += count;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// Returns a little-endian number of at most 8 bytes.
    fn length(&mut self, bytes: usize) -> Result<usize, String> {
        let mut all = [0; 8];
        all[..bytes].copy_from_slice(self.take(bytes)?);
        let length = u64::from_le_bytes(all);
        usize::try_from(length).map_err(|_| format!("a length of {length} bytes"))
    }

    /// Returns the bytes up to the end of the line, and moves past it.
    fn line(&mut self) -> Result<&'a [u8], String> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| *byte == b'\n');
        let length = length.ok_or("it is cut off in the middle of a line")?;
        self.at += length + 1;
        Ok(&rest[..length])
    }

    fn push(&mut self, value: Value<'a>) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    /// Returns the height of the stack at the last mark. Values below it are protected.
    fn bottom(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Id, String> {
        let top = self.stack.last().filter(|_| self.stack.len() > self.bottom());
        top.copied().ok_or_else(|| UNDERFLOW.into())
    }

    fn pop(&mut self) -> Result<Id, String> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    /// Returns the values above the last mark, and removes them and the mark.
    fn pop_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or("it needs a mark, and none is set")?;
        Ok(self.stack.split_off(mark))
    }
}

const UNDERFLOW: &str = "it takes a value from an empty stack";

/// Groups a list into pairs of a key and a value.
fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>, String> {
    match items.as_chunks::<2>() {
        (pairs, []) => Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect()),
        _ => Err("a key without a value".into()),
    }
}
