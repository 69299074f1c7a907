//! Ops -> steps: what a pass dispatches, without touching a device.
//!
//! Everything that differs between passes of one plan (`n`, `pos`, which rows the head reads) is left to the `Run` uniform and to
//! [`Grid`]; so a plan is recorded once for each [`Class`] of batch size and replayed for ever.

use super::{
    forms::{Forms, MatmulForm, Shape},
    kernels::Kernel,
    mixers::Scan,
    step::{Bind, Class, Grid, MAX_GROUPS, Scratch, Step},
    uniforms,
    weights::{Matrix, Slab},
};
use crate::{
    Error, Result,
    backend::{Buf, KvType, Mat, Norm, Vector},
    gguf::GgmlType,
};

/// What was declared: enough to record on, without a device.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) mats: Vec<Matrix>,
    /// Start of each parameter in the arena, elements, a multiple of 4.
    pub(super) vectors: Vec<u32>,
    /// Elements of all of them.
    pub(super) vectors_len: u32,
    /// Row stride of each activation buffer, elements, a multiple of 4.
    pub(super) bufs: Vec<u32>,
    pub(super) n_ubatch: u32,
    pub(super) max_binding: u64,
    /// Which kernels are recorded.
    pub(super) forms: Forms,
    /// Form of the Mamba recurrence.
    pub(super) scan: Scan,
    /// Keys from which on a batch's attention is a step for each key/value head.
    pub(super) far: u32,
}

impl Tables {
    pub(super) fn matrix(&mut self, name: &str, ty: GgmlType, n_rows: u32, n_cols: u32) -> Result<Mat> {
        self.mats.push(Matrix::new(name, ty, n_rows, n_cols, self.max_binding)?);
        let id = self.mats.len() as u32 - 1;
        Ok(Mat { id, n_rows, n_cols, ty })
    }

    pub(super) fn vector(&mut self, len: u32) -> Result<Vector> {
        let id = self.vectors.len() as u32;
        self.vectors.push(self.vectors_len);
        self.vectors_len = self
            .vectors_len
            .checked_add(len)
            .and_then(|end| end.checked_next_multiple_of(4))
            .filter(|&end| end as u64 * 4 <= self.max_binding)
            .ok_or(Error::OutOfMemory {
                what: "the model's small parameters",
                bytes: self.vectors_len as u64 * 4 + len as u64 * 4,
            })?;
        Ok(Vector { id, len })
    }

    pub(super) fn buffer(&mut self, n_cols: u32) -> Buf {
        self.bufs.push(n_cols.next_multiple_of(4));
        let id = self.bufs.len() as u32 - 1;
        Buf { id, n_cols }
    }

    pub(super) fn stride(&self, b: Buf) -> u32 {
        self.bufs[b.id as usize]
    }

    pub(super) fn at(&self, v: Vector) -> u32 {
        self.vectors[v.id as usize]
    }
}

/// Slabs of one type that one dispatch multiplies.
struct Run<'a> {
    ty: GgmlType,
    n_cols: u32,
    slabs: Vec<&'a Slab>,
}

impl Run<'_> {
    fn rows(&self) -> u32 {
        self.slabs.iter().map(|s| s.n_rows).sum()
    }

    /// The range that holds them all: arena, first byte, bytes.
    fn range(slabs: &[&Slab]) -> (u32, u64, u64) {
        let start = slabs.iter().map(|s| s.offset).min().unwrap_or(0);
        let end = slabs.iter().map(|s| s.offset + s.bytes).max().unwrap_or(0);
        (slabs[0].arena, start, end - start)
    }

    fn bind(&self) -> Bind {
        let (arena, offset, bytes) = Run::range(&self.slabs);
        Bind::Weights { arena, offset, bytes }
    }

    fn segments(&self, op: &mut uniforms::Product) {
        let (_, start, _) = Run::range(&self.slabs);
        let mut end = 0;
        op.seg_end = [u32::MAX; 4];
        for (i, slab) in self.slabs.iter().enumerate() {
            end += slab.n_rows;
            op.seg_end[i] = end;
            op.planes[i] = planes_from(slab, start);
        }
    }
}

/// A slab's planes as quads from byte `start` of its arena.
fn planes_from(slab: &Slab, start: u64) -> [u32; 4] {
    slab.planes.map(|p| p + ((slab.offset - start) / 16) as u32)
}

/// Splits matrices into as few dispatches as one binding and four segments allow.
fn runs<'a>(mats: &[&'a Matrix], max_binding: u64) -> Vec<Run<'a>> {
    let mut out: Vec<Run<'a>> = Vec::new();
    for m in mats {
        for slab in &m.slabs {
            if let Some(run) = out.last_mut() {
                run.slabs.push(slab);
                let (_, _, bytes) = Run::range(&run.slabs);
                let fits = run.slabs.len() <= 4 && bytes <= max_binding && run.slabs[0].arena == slab.arena;
                if fits && run.ty == m.ty && run.n_cols == m.n_cols {
                    continue;
                }
                run.slabs.pop();
            }
            out.push(Run {
                ty: m.ty,
                n_cols: m.n_cols,
                slabs: vec![slab],
            });
        }
    }
    out
}

/// Where a product reads and writes.
struct Product {
    x: Buf,
    norm: Option<Norm>,
    then: Then,
    scale: f32,
    y: Bind,
    y_stride: u32,
}

/// What happens to the sums of a product.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Store,
    Add,
    /// `silu(gate) * up`.
    Glu,
}

/// Which list a step belongs to.
enum Part {
    Body,
    Head,
    Pick,
    HeadRows,
}

/// Collects the steps of one pass.
pub(super) struct Recorder {
    pub(super) class: Class,
    pub(super) kv_type: KvType,
    pub(super) n_ctx: u32,
    /// Everything before the head.
    pub(super) body: Vec<Step>,
    /// Logits of one row.
    pub(super) head: Vec<Step>,
    /// The greedy token of them.
    pub(super) pick: Vec<Step>,
    /// Logits of many rows.
    pub(super) head_rows: Vec<Step>,
    part: Part,
    pub(super) scratch: Scratch,
    /// Rows of the embedding table.
    pub(super) n_embd_rows: u32,
    /// Rows of the head.
    pub(super) n_vocab: u32,
    /// A buffer whose RMS norm is still to be applied: by the product that reads it, or by a step of its own.
    pub(super) deferred: Option<(Buf, Norm)>,
    /// The first thing that cannot be done. Ops return nothing, so it waits for the end of the pass.
    pub(super) error: Option<Error>,
}

impl Recorder {
    pub(super) fn new(class: Class, kv_type: KvType, n_ctx: u32) -> Recorder {
        Recorder {
            class,
            kv_type,
            n_ctx,
            body: Vec::new(),
            head: Vec::new(),
            pick: Vec::new(),
            head_rows: Vec::new(),
            part: Part::Body,
            scratch: Scratch::default(),
            n_embd_rows: 0,
            n_vocab: 0,
            deferred: None,
            error: None,
        }
    }

    /// The whole pass, or the first thing that could not be done.
    pub(super) fn finish(mut self) -> Result<Recorder> {
        self.error.take().map_or(Ok(self), Err)
    }

    fn lists(&self) -> [&Vec<Step>; 4] {
        [&self.body, &self.head, &self.pick, &self.head_rows]
    }

    /// What its steps run, with repetitions.
    pub(super) fn kernels(&self) -> impl Iterator<Item = Kernel> {
        self.lists().into_iter().flatten().map(|step| step.kernel)
    }

    /// How much is recorded, for [`Recorder::since`].
    pub(super) fn mark(&self) -> [usize; 4] {
        self.lists().map(Vec::len)
    }

    /// The kernels of what was recorded after a mark.
    pub(super) fn since(&self, mark: [usize; 4]) -> Vec<Kernel> {
        let steps = self.lists().into_iter().zip(mark).flat_map(|(list, from)| &list[from..]);
        steps.map(|step| step.kernel).collect()
    }

    pub(super) fn push<P: bytemuck::Pod>(&mut self, t: &Tables, kernel: Kernel, binds: &[Bind], params: &P, grid: Grid) {
        debug_assert_eq!(binds.len(), kernel.storage().len());
        let size = grid.size(t.n_ubatch, 0);
        if size.iter().any(|&n| n > MAX_GROUPS) {
            self.refuse("the size of a layer", format!("{}: {size:?} workgroups", kernel.name()));
        }
        let step = Step {
            kernel,
            binds: binds.to_vec(),
            params: bytemuck::bytes_of(params).to_vec(),
            grid,
        };
        match self.part {
            Part::Body => self.body.push(step),
            Part::Head => self.head.push(step),
            Part::Pick => self.pick.push(step),
            Part::HeadRows => self.head_rows.push(step),
        }
    }

    pub(super) fn refuse(&mut self, what: &'static str, found: String) {
        self.error.get_or_insert(Error::UnsupportedModel {
            what,
            found,
            supported: "smaller ones on WebGPU",
        });
    }

    /// Applies a deferred norm that no product folds in. Every op but `matmul_add` begins with this.
    pub(super) fn settle(&mut self, t: &Tables) {
        if let Some((buf, norm)) = self.deferred.take() {
            self.group_norm(t, buf, norm, 1);
        }
    }

    pub(super) fn group_norm(&mut self, t: &Tables, y: Buf, norm: Norm, n_group: u32) {
        let op = uniforms::GroupNorm {
            n_cols: norm.gamma.len / n_group,
            n_group,
            y_stride: t.stride(y),
            gamma: t.at(norm.gamma),
            eps: norm.eps,
        };
        self.push(
            t,
            Kernel::GroupNorm,
            &[Bind::Buf(y.id), Bind::Vectors],
            &op,
            Grid::Tokens(n_group),
        );
    }

    /// One product of the batch's class.
    fn product(&mut self, t: &Tables, run: &Run, p: &Product, y_col: u32, n_rows: u32) {
        let x_stride = t.stride(p.x);
        let mut op = uniforms::Product {
            n_rows,
            x_stride: x_stride / 4,
            y_stride: p.y_stride,
            y_col,
            scale: p.scale,
            ..Default::default()
        };
        if let Some(norm) = p.norm {
            op.gamma = t.at(norm.gamma) / 4;
            op.eps = norm.eps;
        }
        run.segments(&mut op);
        // GLU halves what a tile gives: it holds rows of two matrices.
        let per = if p.then == Then::Glu { 2 } else { 1 };
        let binds = [run.bind(), Bind::Buf(p.x.id), Bind::Vectors, p.y];
        let shape = Shape {
            n_chunks: run.n_cols / 32,
            norm: p.norm.is_some(),
            add: p.then == Then::Add,
            glu: p.then == Then::Glu,
        };
        let groups = |rows: u32| n_rows.div_ceil(rows / per);
        let (kernel, grid) = match self.class {
            Class::One => {
                let form = t.forms.matvec.of(run.ty);
                let groups = n_rows.div_ceil(form.rows(run.ty, shape));
                (Kernel::Matvec(run.ty, form, shape), Grid::line(groups))
            }
            Class::Few => {
                let form = t.forms.matmul.few();
                let grid = Grid::TokenTiles {
                    x: groups(form.few_rows()),
                    tile: 8,
                };
                (Kernel::Few(run.ty, form, shape), grid)
            }
            Class::Many => {
                let form = t.forms.matmul.of(run.ty);
                let grid = Grid::TokenTiles {
                    x: groups(form.rows()),
                    tile: MatmulForm::TOKENS,
                };
                (Kernel::Matmul(run.ty, form, shape), grid)
            }
        };
        self.push(t, kernel, &binds, &op, grid);
    }

    /// All rows of `mats`, one after another, into the columns of `p.y`.
    fn products(&mut self, t: &Tables, mats: &[Mat], p: &Product) {
        let mats: Vec<&Matrix> = mats.iter().map(|m| &t.mats[m.id as usize]).collect();
        let mut col = 0;
        for run in runs(&mats, t.max_binding) {
            self.product(t, &run, p, col, run.rows());
            col += run.rows();
        }
    }

    pub(super) fn embed(&mut self, t: &Tables, table: Mat, scale: f32, x: Buf) {
        self.settle(t);
        self.n_embd_rows = table.n_rows;
        for slab in &t.mats[table.id as usize].slabs {
            let op = uniforms::Embed {
                n_chunks: table.n_cols / 32,
                x_stride: t.stride(x) / 4,
                row0: slab.row0,
                n_rows: slab.n_rows,
                scale,
                planes: slab.planes,
                ..Default::default()
            };
            let weights = Bind::Weights {
                arena: slab.arena,
                offset: slab.offset,
                bytes: slab.bytes,
            };
            let grid = Grid::Tokens(op.n_chunks.div_ceil(64));
            self.push(t, Kernel::Embed(table.ty), &[weights, Bind::Ids, Bind::Buf(x.id)], &op, grid);
        }
    }

    pub(super) fn norm_matmul(&mut self, t: &Tables, x: Buf, norm: Norm, ws: &[Mat], y: Buf) {
        self.settle(t);
        let p = Product {
            x,
            norm: Some(norm),
            then: Then::Store,
            scale: 1.0,
            y: Bind::Buf(y.id),
            y_stride: t.stride(y),
        };
        self.products(t, ws, &p);
    }

    /// `y = W x` with nothing folded in: no model asks for it, but comparisons with other engines do.
    pub(super) fn plain_product(&mut self, t: &Tables, x: Buf, w: Mat, y: Buf) {
        let p = Product {
            x,
            norm: None,
            then: Then::Store,
            scale: 1.0,
            y: Bind::Buf(y.id),
            y_stride: t.stride(y),
        };
        self.products(t, &[w], &p);
    }

    pub(super) fn matmul_add(&mut self, t: &Tables, w: Mat, y: Buf, scale: f32, x: Buf) {
        let folds = |d: &mut (Buf, Norm)| d.0.id == y.id && d.1.gamma.len == w.n_cols;
        let norm = self.deferred.take_if(folds).map(|d| d.1);
        self.settle(t);
        let p = Product {
            x: y,
            norm,
            then: Then::Add,
            scale,
            y: Bind::Buf(x.id),
            y_stride: t.stride(x),
        };
        self.products(t, &[w], &p);
    }

    pub(super) fn swiglu(&mut self, t: &Tables, x: Buf, norm: Norm, gate: Mat, up: Mat, h: Buf) {
        self.settle(t);
        let mut p = Product {
            x,
            norm: Some(norm),
            then: Then::Glu,
            scale: 1.0,
            y: Bind::Buf(h.id),
            y_stride: t.stride(h),
        };
        let both = [&t.mats[gate.id as usize], &t.mats[up.id as usize]];
        let joint = runs(&both, t.max_binding);
        if let [run] = &joint[..]
            && run.slabs.len() == 2
        {
            self.product(t, run, &p, 0, gate.n_rows);
            return;
        }
        p.then = Then::Store;
        self.products(t, &[gate], &p);
        let stride = gate.n_rows.next_multiple_of(4);
        self.scratch.up = self.scratch.up.max(stride as u64 * t.n_ubatch as u64);
        (p.y, p.y_stride) = (Bind::Up, stride);
        self.products(t, &[up], &p);
        let op = uniforms::Glu {
            n_ff: gate.n_rows,
            h_stride: t.stride(h),
            up_stride: stride,
        };
        let grid = Grid::Tokens(gate.n_rows.div_ceil(64));
        self.push(t, Kernel::Glu, &[Bind::Buf(h.id), Bind::Up], &op, grid);
    }

    pub(super) fn pick(&mut self, t: &Tables, x: Buf, norm: Norm, head: Mat, logit_scale: f32) {
        self.settle(t);
        self.n_vocab = head.n_rows;
        let p = Product {
            x,
            norm: Some(norm),
            then: Then::Store,
            scale: 1.0 / logit_scale,
            y: Bind::Logits,
            y_stride: head.n_rows,
        };
        if self.class != Class::One {
            self.part = Part::HeadRows;
            self.products(t, &[head], &p);
        }
        self.part = Part::Head;
        let class = std::mem::replace(&mut self.class, Class::One);
        self.products(t, &[head], &p);
        self.part = Part::Pick;
        let op = uniforms::Argmax {
            n_vocab: head.n_rows,
            n_part: head.n_rows.div_ceil(4096),
        };
        self.push(t, Kernel::Argmax, &[Bind::Logits, Bind::Best], &op, Grid::Fixed(op.n_part, 1));
        self.push(t, Kernel::ArgmaxJoin, &[Bind::Best, Bind::Chosen], &op, Grid::Fixed(1, 1));
        self.class = class;
    }
}
