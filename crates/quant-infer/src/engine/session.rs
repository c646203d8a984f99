//! Sessions, which run a network on one image after another.

use alloc::vec::Vec;

use super::{layout::Layout, memory::Memory, network::Network, run::Run};
use crate::{Error, Image};

/// Runs a network on one image after another. A session owns the memory that this needs, and
/// allocates only for the first image of each size that follows another size.
///
/// ```
/// use quant_infer::{Image, Network};
/// # use quant_infer::model::{Input, Model, Node, Op};
/// # let node = |name: &str, op, inputs| Node { name: name.into(), op, inputs };
/// # let model = Model {
/// #     name: "average".into(),
/// #     producer: "example".into(),
/// #     classes: vec!["red".into(), "green".into()],
/// #     input: Input {
/// #         size: [1, 2],
/// #         shorter_side: None,
/// #         scale: vec![0.5; 2],
/// #         shift: vec![0.0; 2],
/// #     },
/// #     nodes: vec![
/// #         node("input", Op::Input, vec![]),
/// #         node("pool", Op::GlobalPool, vec![0]),
/// #     ],
/// # };
///
/// // A network that averages each of two channels.
/// let network = Network::new(&model)?;
/// let mut session = network.session();
/// for (bytes, expected) in [([0, 8, 2, 8], [0.5, 4.0]), ([4, 0, 4, 2], [2.0, 0.5])] {
///     assert_eq!(session.run(&Image::interleaved(&bytes, [1, 2]))?, expected);
/// }
/// # Ok::<(), quant_infer::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Session<'n> {
    network: &'n Network,
    layout: Option<Layout>,
    memory: Memory,
    /// The nodes whose codes are kept, with the codes of the last image.
    watched: Vec<(usize, Vec<u8>)>,
}

impl<'n> Session<'n> {
    pub(super) fn new(network: &'n Network) -> Self {
        let input = &network.model.input;
        let bytes = (0..input.scale.len())
            .map(|channel| core::array::from_fn(|byte| input.number(channel, byte as u8)))
            .collect();
        let memory = Memory { bytes, ..Memory::default() };
        Self { network, layout: None, memory, watched: Vec::new() }
    }

    /// Returns the class scores of an image. They are valid until the next image.
    ///
    /// # Errors
    /// [`Error::Image`] if the image does not fit the network.
    pub fn run(&mut self, image: &Image<'_>) -> Result<&[f32], Error> {
        self.run_with(image, |_| {})
    }

    /// Runs an image, and returns the name of each step's first layer with the time that the step
    /// took. A step has the layers that are computed together.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    #[cfg(feature = "std")]
    pub fn profile(
        &mut self,
        image: &Image<'_>,
    ) -> Result<Vec<(&'n str, std::time::Duration)>, Error> {
        let network = self.network;
        let mut times: Vec<(&str, std::time::Duration)> = Vec::new();
        let mut last = std::time::Instant::now();
        self.run_with(image, |step| {
            let now = std::time::Instant::now();
            times.push((&network.model.nodes[network.steps[step].node].name, now - last));
            last = now;
        })?;
        Ok(times)
    }

    /// Runs an image, and calls `done` after each step.
    fn run_with(
        &mut self,
        image: &Image<'_>,
        mut done: impl FnMut(usize),
    ) -> Result<&[f32], Error> {
        image.check(&self.network.model.input)?;
        let layout = match self.layout.take() {
            Some(layout) if layout.size == image.size() => layout,
            _ => {
                let layout = Layout::new(self.network, image.size())?;
                self.memory.prepare(self.network, &layout);
                layout
            }
        };
        let mut run = Run {
            network: self.network,
            layout: &layout,
            memory: &mut self.memory,
            watched: &mut self.watched,
        };
        for index in 0..self.network.steps.len() {
            run.step(index, image);
            done(index);
        }
        let scores = layout.buffers[self.network.scores];
        let classes = layout.sizes[self.network.scores].channels;
        self.layout = Some(layout);
        Ok(&self.memory.floats[scores][..classes])
    }

    /// Keeps the codes of a layer for the next images: those of the input of a quantized
    /// convolution, or of a quantizer that stands alone. `layer` is its index in
    /// [`Network::layers`].
    pub fn watch(&mut self, layer: usize) {
        if !self.watched.iter().any(|(watched, _)| *watched == layer) {
            self.watched.push((layer, Vec::new()));
        }
    }

    /// Returns the codes of a watched layer for the last image, `[channels, height, width]`.
    ///
    /// They are found from what the layer really read. Codes with the same integers, or the same
    /// value where the layer reads floats, cannot be told apart; the lowest of them is returned.
    /// The codes of a quantizer that became thresholds of a convolution's sums, together with what
    /// follows it, are computed from these sums. There are none if the layer has no quantizer.
    pub fn codes(&self, layer: usize) -> Option<&[u8]> {
        let (_, codes) = self.watched.iter().find(|(watched, _)| *watched == layer)?;
        (!codes.is_empty()).then_some(codes)
    }
}

impl Network {
    /// Returns a session, which runs one image after another.
    pub fn session(&self) -> Session<'_> {
        Session::new(self)
    }

    /// Returns the class scores of an image. A [`session`](Self::session) keeps its memory for the
    /// next image.
    ///
    /// # Errors
    /// [`Error::Image`] if the image does not fit the network.
    pub fn run(&self, image: &Image<'_>) -> Result<Vec<f32>, Error> {
        self.session().run(image).map(<[f32]>::to_vec)
    }

    /// Returns the class scores of each image, in the order of the images. `threads` threads share
    /// the images; each has its own session, and computes one image at a time.
    ///
    /// # Errors
    /// [`Error::Image`] with the first image that does not fit the network.
    #[cfg(feature = "std")]
    pub fn run_batch(&self, images: &[Image<'_>], threads: usize) -> Result<Vec<Vec<f32>>, Error> {
        use alloc::vec;
        use core::sync::atomic::{AtomicUsize, Ordering};
        use std::sync::Mutex;

        let next = AtomicUsize::new(0);
        let results = Mutex::new(vec![Ok(Vec::new()); images.len()]);
        let work = || {
            let mut session = self.session();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(image) = images.get(index) else { return };
                let scores = session.run(image).map(<[f32]>::to_vec);
                // A thread that panicked has left the results whole: it replaces one at a time.
                results.lock().unwrap_or_else(|error| error.into_inner())[index] = scores;
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads.min(images.len()) {
                scope.spawn(work);
            }
            work();
        });
        results.into_inner().unwrap_or_else(|error| error.into_inner()).into_iter().collect()
    }
}
