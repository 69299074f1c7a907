//! For backends that stand around another one: to time it, to look into it, to make it fail.

/// Methods of an `impl Backend` that only call those of `self.inner`, by their names or by a group's: `loading` (but not `prepare` and
/// `ready`), `state`, `pass`, `ops`, `reply`. What is not named is written by hand beside it.
///
/// ```
/// # use outcrop::{Result, backend::*, forward};
/// /// Counts the tokens that pass through.
/// struct Counted<B> { inner: B, tokens: usize }
///
/// impl<B: Backend> Backend for Counted<B> {
///     type State = B::State;
///     forward!(loading state n_ubatch ops end reply);
///
///     fn begin(&mut self, state: &mut B::State, pass: &Pass) -> Result<bool> {
///         self.tokens += pass.ids.len();
///         self.inner.begin(state, pass)
///     }
/// }
/// ```
#[macro_export]
macro_rules! forward {
    () => {};
    (loading $($more:ident)*) => {
        $crate::forward!(matrix vector buffer write_matrix write_vector finish_loading $($more)*);
    };
    (state $($more:ident)*) => { $crate::forward!(new_state reset_state $($more)*); };
    (pass $($more:ident)*) => { $crate::forward!(n_ubatch begin end $($more)*); };
    (ops $($more:ident)*) => {
        $crate::forward!(embed norm_matmul mamba_mix attend matmul_add swiglu pick $($more)*);
    };
    (reply $($more:ident)*) => { $crate::forward!(begin_reply fetch depth mark rewind $($more)*); };
    ($method:ident $($more:ident)*) => {
        $crate::forward!(= $method);
        $crate::forward!($($more)*);
    };

    (= matrix) => {
        fn matrix(
            &mut self,
            name: &str,
            ty: $crate::gguf::GgmlType,
            n_rows: u32,
            n_cols: u32,
        ) -> $crate::Result<$crate::backend::Mat> {
            self.inner.matrix(name, ty, n_rows, n_cols)
        }
    };
    (= vector) => {
        fn vector(&mut self, name: &str, len: u32) -> $crate::Result<$crate::backend::Vector> {
            self.inner.vector(name, len)
        }
    };
    (= buffer) => {
        fn buffer(&mut self, n_cols: u32) -> $crate::Result<$crate::backend::Buf> {
            self.inner.buffer(n_cols)
        }
    };
    (= write_matrix) => {
        fn write_matrix(&mut self, w: $crate::backend::Mat, offset: u64, bytes: &[u8]) -> $crate::Result<()> {
            self.inner.write_matrix(w, offset, bytes)
        }
    };
    (= write_vector) => {
        fn write_vector(&mut self, v: $crate::backend::Vector, values: &[f32]) -> $crate::Result<()> {
            self.inner.write_vector(v, values)
        }
    };
    (= finish_loading) => {
        async fn finish_loading(&mut self) -> $crate::Result<()> {
            self.inner.finish_loading().await
        }
    };

    (= new_state) => {
        fn new_state(&mut self, shape: &$crate::backend::StateShape) -> $crate::Result<Self::State> {
            self.inner.new_state(shape)
        }
    };
    (= reset_state) => {
        fn reset_state(&mut self, state: &mut Self::State) -> $crate::Result<()> {
            self.inner.reset_state(state)
        }
    };

    (= n_ubatch) => {
        fn n_ubatch(&self) -> u32 {
            self.inner.n_ubatch()
        }
    };
    (= begin) => {
        fn begin(&mut self, state: &mut Self::State, pass: &$crate::backend::Pass) -> $crate::Result<bool> {
            self.inner.begin(state, pass)
        }
    };
    (= end) => {
        async fn end(
            &mut self,
            state: &mut Self::State,
            pass: &$crate::backend::Pass<'_>,
            logits: &mut Vec<f32>,
        ) -> $crate::Result<Option<u32>> {
            self.inner.end(state, pass, logits).await
        }
    };

    (= embed) => {
        fn embed(&mut self, table: $crate::backend::Mat, scale: f32, x: $crate::backend::Buf) {
            self.inner.embed(table, scale, x);
        }
    };
    (= norm_matmul) => {
        fn norm_matmul(
            &mut self,
            x: $crate::backend::Buf,
            norm: $crate::backend::Norm,
            ws: &[$crate::backend::Mat],
            y: $crate::backend::Buf,
        ) {
            self.inner.norm_matmul(x, norm, ws, y);
        }
    };
    (= mamba_mix) => {
        fn mamba_mix(&mut self, p: $crate::backend::Buf, m: &$crate::backend::Mamba, y: $crate::backend::Buf) {
            self.inner.mamba_mix(p, m, y);
        }
    };
    (= attend) => {
        fn attend(&mut self, qkv: $crate::backend::Buf, a: &$crate::backend::Attention, y: $crate::backend::Buf) {
            self.inner.attend(qkv, a, y);
        }
    };
    (= matmul_add) => {
        fn matmul_add(&mut self, w: $crate::backend::Mat, y: $crate::backend::Buf, scale: f32, x: $crate::backend::Buf) {
            self.inner.matmul_add(w, y, scale, x);
        }
    };
    (= swiglu) => {
        fn swiglu(
            &mut self,
            x: $crate::backend::Buf,
            norm: $crate::backend::Norm,
            gate: $crate::backend::Mat,
            up: $crate::backend::Mat,
            h: $crate::backend::Buf,
        ) {
            self.inner.swiglu(x, norm, gate, up, h);
        }
    };
    (= pick) => {
        fn pick(
            &mut self,
            x: $crate::backend::Buf,
            norm: $crate::backend::Norm,
            head: $crate::backend::Mat,
            logit_scale: f32,
        ) {
            self.inner.pick(x, norm, head, logit_scale);
        }
    };

    (= begin_reply) => {
        async fn begin_reply(&mut self, state: &mut Self::State, choice: &$crate::backend::Choice<'_>) -> $crate::Result<bool> {
            self.inner.begin_reply(state, choice).await
        }
    };
    (= fetch) => {
        async fn fetch(&mut self, made: &mut Vec<$crate::backend::Made>) -> $crate::Result<()> {
            self.inner.fetch(made).await
        }
    };
    (= depth) => {
        fn depth(&self) -> usize {
            self.inner.depth()
        }
    };
    (= mark) => {
        fn mark(&mut self, state: &mut Self::State) -> $crate::Result<()> {
            self.inner.mark(state)
        }
    };
    (= rewind) => {
        fn rewind(&mut self, state: &mut Self::State) -> $crate::Result<()> {
            self.inner.rewind(state)
        }
    };
}
