//! What kernels take: structs with the fields and the layout of those in `kernels/`, which
//! `tests::structs_are_those_of_the_kernels` compares.

use std::ffi::c_void;
use std::marker::PhantomData;

use super::{Address, Kernel};

/// A struct that kernels take by value.
///
/// # Safety
/// It is `repr(C)` and has the fields that the kernels' struct of the same name has.
pub unsafe trait Arguments: Copy {}

/// A borrowed struct of arguments.
#[derive(Debug, Clone, Copy)]
pub struct Args<'a> {
    pointer: *const c_void,
    borrowed: PhantomData<&'a c_void>,
}

impl<'a> Args<'a> {
    /// Of this struct.
    pub fn of<T: Arguments>(args: &'a T) -> Self {
        Self {
            pointer: std::ptr::from_ref(args).cast(),
            borrowed: PhantomData,
        }
    }

    /// Where it lies.
    pub fn pointer(self) -> *const c_void {
        self.pointer
    }
}

macro_rules! arguments {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $kind:ty),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[repr(C)]
            #[derive(Debug, Clone, Copy, Default)]
            #[allow(missing_docs, reason = "the kernels' file says what each is")]
            pub struct $name {
                $(pub $field: $kind,)*
            }

            // SAFETY: `repr(C)`; the fields are compared in a test.
            unsafe impl Arguments for $name {}
        )*

        /// Fields of all structs as the kernels' files have them.
        #[cfg(test)]
        const FIELDS: &[(&str, &[(&str, &str)])] = &[
            $((stringify!($name), &[$((stringify!($field), stringify!($kind))),*])),*
        ];
    };
}

arguments! {
    /// `Window` of the kernels.
    Window {
        height: i32,
        width: i32,
        channels: i32,
        out_height: i32,
        out_width: i32,
        kernel_height: i32,
        kernel_width: i32,
        stride_height: i32,
        stride_width: i32,
        dilation_height: i32,
        dilation_width: i32,
        top: i32,
        left: i32,
    }

    /// `Affine` of the kernels.
    Affine {
        x: Address,
        residual: Address,
        mean: Address,
        scale: Address,
        offset: Address,
        y: Address,
        count: i64,
        channels: i32,
        activation: i32,
    }

    /// `ActivateGrad` of the kernels.
    ActivateGrad {
        of: Address,
        dy: Address,
        count: i64,
        activation: i32,
    }

    /// `AddInto` of the kernels.
    AddInto {
        from: Address,
        to: Address,
        count: i64,
    }

    /// `Mask` of the kernels.
    Mask {
        x: Address,
        mask: Address,
        y: Address,
        count: i64,
    }

    /// `Convert` of the kernels.
    Convert {
        from: Address,
        to: Address,
        count: i64,
    }

    /// `Pixels` of the kernels.
    Pixels {
        from: Address,
        scale: Address,
        offset: Address,
        to: Address,
        count: i64,
        channels: i32,
    }

    /// `Gate` of the kernels.
    Gate {
        x: Address,
        factors: Address,
        y: Address,
        count: i64,
        channels: i32,
        pixels: i32,
    }

    /// `Spread` of the kernels.
    Spread {
        dy: Address,
        dx: Address,
        count: i64,
        channels: i32,
        pixels: i32,
    }

    /// `GlobalMax` of the kernels.
    GlobalMax {
        x: Address,
        dy: Address,
        to: Address,
        count: i64,
        channels: i32,
        pixels: i32,
    }

    /// `Box` of the kernels.
    Box {
        from: Address,
        to: Address,
        count: i64,
        height: i32,
        width: i32,
        channels: i32,
        from_height: i32,
        from_width: i32,
        from_channels: i32,
        from_row: i32,
        from_column: i32,
        from_channel: i32,
        to_height: i32,
        to_width: i32,
        to_channels: i32,
        to_row: i32,
        to_column: i32,
        to_channel: i32,
        add: i32,
    }

    /// `Columns` of the kernels.
    Columns {
        x: Address,
        dy: Address,
        mean: Address,
        scale: Address,
        offset: Address,
        moments: Address,
        partial: Address,
        rows: i64,
        rows_per_block: i32,
        channels: i32,
        lanes: i32,
        low: f32,
        high: f32,
    }

    /// `Finish` of the kernels.
    Finish {
        partial: Address,
        to: Address,
        count: i64,
        blocks: i32,
        add: i32,
        factor: f32,
    }

    /// `Scaled` of the kernels.
    Scaled {
        from: Address,
        to: Address,
        count: i64,
        factor: f32,
    }

    /// `FinishMoments` of the kernels.
    FinishMoments {
        partial: Address,
        x: Address,
        gamma: Address,
        beta: Address,
        mean: Address,
        inverse: Address,
        scale: Address,
        running_mean: Address,
        running_variance: Address,
        rows: f64,
        epsilon: f64,
        momentum: f64,
        blocks: i32,
        channels: i32,
    }

    /// `StoredNorm` of the kernels.
    StoredNorm {
        gamma: Address,
        mean: Address,
        variance: Address,
        inverse: Address,
        scale: Address,
        to_mean: Address,
        epsilon: f64,
        channels: i32,
    }

    /// `FinishNorm` of the kernels.
    FinishNorm {
        sums: Address,
        inverse: Address,
        scale: Address,
        coefficients: Address,
        gamma: Address,
        beta: Address,
        rows: f64,
        channels: i32,
        by_batch: i32,
    }

    /// `NormGrad` of the kernels.
    NormGrad {
        x: Address,
        dy: Address,
        mean: Address,
        scale: Address,
        offset: Address,
        coefficients: Address,
        dx: Address,
        count: i64,
        channels: i32,
        low: f32,
        high: f32,
    }

    /// `Depthwise` of the kernels.
    Depthwise {
        x: Address,
        kernel: Address,
        bias: Address,
        residual: Address,
        in_mean: Address,
        in_scale: Address,
        in_offset: Address,
        y: Address,
        window: Window,
        pictures: i32,
        in_low: f32,
        in_high: f32,
        activation: i32,
        turned: i32,
    }

    /// `DepthwiseGrad` of the kernels.
    DepthwiseGrad {
        dy: Address,
        kernel: Address,
        dx: Address,
        window: Window,
        pictures: i32,
        add: i32,
    }

    /// `DepthwiseKernelGrad` of the kernels.
    DepthwiseKernelGrad {
        x: Address,
        dy: Address,
        in_mean: Address,
        in_scale: Address,
        in_offset: Address,
        partial: Address,
        window: Window,
        rows: i64,
        rows_per_block: i32,
        lanes: i32,
        in_low: f32,
        in_high: f32,
    }

    /// `Pool` of the kernels.
    Pool {
        x: Address,
        dy: Address,
        to: Address,
        window: Window,
        pictures: i32,
        count_pad: i32,
    }

    /// `LayerNorm` of the kernels.
    LayerNorm {
        x: Address,
        dy: Address,
        gamma: Address,
        beta: Address,
        to: Address,
        moments: Address,
        rows: i64,
        channels: i32,
        epsilon: f32,
    }

    /// `Softmax` of the kernels.
    Softmax {
        weights: Address,
        gradient: Address,
        rows: i64,
        columns: i32,
        width: i32,
        scale: f32,
    }

    /// `Tokens` of the kernels.
    Tokens {
        x: Address,
        position: Address,
        first: Address,
        first_position: Address,
        y: Address,
        count: i64,
        input: i32,
        output: i32,
        offset: i32,
    }

    /// `PictureSums` of the kernels.
    PictureSums {
        dy: Address,
        to: Address,
        pictures: i32,
        values: i32,
        stride: i32,
    }

    /// `Fold` of the kernels.
    Fold {
        gamma: Address,
        beta: Address,
        mean: Address,
        variance: Address,
        bias: Address,
        scale: Address,
        inverse: Address,
        shift: Address,
        offset: Address,
        offset_real: Address,
        epsilon: f64,
        channels: i32,
    }

    /// `Part` of the kernels.
    Part {
        from: Address,
        scale: Address,
        to: Address,
        count: i64,
        row: i32,
        filters: i32,
        single: i32,
        first_block: i32,
    }

    /// `Scale` of the kernels.
    Scale {
        parts: Address,
        count: i32,
    }

    /// `Unfold` of the kernels.
    Unfold {
        real: Address,
        single: Address,
        kernel: Address,
        scale: Address,
        inverse: Address,
        shift: Address,
        sums: Address,
        to_kernel: Address,
        to_gamma: Address,
        row: i32,
        filters: i32,
        columns: i32,
    }

    /// `UnfoldBias` of the kernels.
    UnfoldBias {
        sums: Address,
        scale: Address,
        to_bias: Address,
        to_beta: Address,
        filters: i32,
    }

    /// `Rule` of the kernels.
    Rule {
        kind: i32,
        nesterov: i32,
        centered: i32,
        moments: i32,
        lr: f32,
        momentum: f32,
        l2: f32,
        rho: f32,
        share: f32,
        epsilon: f32,
        correction: f32,
        share1: f32,
        keep: f32,
    }

    /// `Optimize` of the kernels.
    Optimize {
        values: Address,
        gradients: Address,
        first: Address,
        second: Address,
        third: Address,
        rules: Address,
        rule_of: Address,
        count: i64,
    }

    /// `Blend` of the kernels.
    Blend {
        to: Address,
        from: Address,
        count: i64,
        keep: f32,
        share: f32,
    }

    /// `Limit` of the kernels.
    Limit {
        to: Address,
        count: i64,
        most: f32,
    }

    /// `Squares` of the kernels.
    Squares {
        from: Address,
        partial: Address,
        count: i64,
        per_block: i32,
    }

}

// SAFETY: numbers that fill it, the largest first: there is nothing between them.
unsafe impl bytemuck::NoUninit for Part {}
// SAFETY: numbers of four bytes each.
unsafe impl bytemuck::NoUninit for Rule {}

/// The kernels.
pub mod kernels {
    use super::Kernel;

    const fn of(file: &'static str, name: &'static str) -> Kernel {
        Kernel { file, name }
    }

    /// `affine` of `map.cu`.
    pub const AFFINE: Kernel = of("map", "affine");
    /// `activate_grad` of `map.cu`.
    pub const ACTIVATE_GRAD: Kernel = of("map", "activate_grad");
    /// `add_into` of `map.cu`.
    pub const ADD_INTO: Kernel = of("map", "add_into");
    /// `mask` of `map.cu`.
    pub const MASK: Kernel = of("map", "mask");
    /// `to_real` of `map.cu`.
    pub const TO_REAL: Kernel = of("map", "to_real");
    /// `to_float` of `map.cu`.
    pub const TO_FLOAT: Kernel = of("map", "to_float");
    /// `pixels` of `map.cu`.
    pub const PIXELS: Kernel = of("map", "pixels");
    /// `gate` of `map.cu`.
    pub const GATE: Kernel = of("map", "gate");
    /// `global_avg_grad` of `map.cu`.
    pub const GLOBAL_AVG_GRAD: Kernel = of("map", "global_avg_grad");
    /// `global_max` of `map.cu`.
    pub const GLOBAL_MAX: Kernel = of("map", "global_max");
    /// `global_max_grad` of `map.cu`.
    pub const GLOBAL_MAX_GRAD: Kernel = of("map", "global_max_grad");
    /// `copy_box` of `map.cu`.
    pub const COPY_BOX: Kernel = of("map", "copy_box");
    /// `sum_columns` of `columns.cu`.
    pub const SUM_COLUMNS: Kernel = of("columns", "sum_columns");
    /// `product_columns` of `columns.cu`.
    pub const PRODUCT_COLUMNS: Kernel = of("columns", "product_columns");
    /// `moments_columns` of `columns.cu`.
    pub const MOMENTS_COLUMNS: Kernel = of("columns", "moments_columns");
    /// `norm_columns` of `columns.cu`.
    pub const NORM_COLUMNS: Kernel = of("columns", "norm_columns");
    /// `layer_norm_columns` of `columns.cu`.
    pub const LAYER_NORM_COLUMNS: Kernel = of("columns", "layer_norm_columns");
    /// `finish_sums` of `columns.cu`.
    pub const FINISH_SUMS: Kernel = of("columns", "finish_sums");
    /// `scaled` of `columns.cu`.
    pub const SCALED: Kernel = of("columns", "scaled");
    /// `finish_moments` of `columns.cu`.
    pub const FINISH_MOMENTS: Kernel = of("columns", "finish_moments");
    /// `stored_norm` of `columns.cu`.
    pub const STORED_NORM: Kernel = of("columns", "stored_norm");
    /// `finish_norm` of `columns.cu`.
    pub const FINISH_NORM: Kernel = of("columns", "finish_norm");
    /// `norm_grad` of `columns.cu`.
    pub const NORM_GRAD: Kernel = of("columns", "norm_grad");
    /// `depthwise` of `depthwise.cu`.
    pub const DEPTHWISE: Kernel = of("depthwise", "depthwise");
    /// `depthwise_3x3` of `depthwise.cu`.
    pub const DEPTHWISE_3X3: Kernel = of("depthwise", "depthwise_3x3");
    /// `depthwise_3x3_by_2` of `depthwise.cu`.
    pub const DEPTHWISE_3X3_BY_2: Kernel = of("depthwise", "depthwise_3x3_by_2");
    /// `depthwise_5x5` of `depthwise.cu`.
    pub const DEPTHWISE_5X5: Kernel = of("depthwise", "depthwise_5x5");
    /// `depthwise_input_grad` of `depthwise.cu`.
    pub const DEPTHWISE_INPUT_GRAD: Kernel = of("depthwise", "depthwise_input_grad");
    /// `depthwise_kernel_grad` of `depthwise.cu`.
    pub const DEPTHWISE_KERNEL_GRAD: Kernel = of("depthwise", "depthwise_kernel_grad");
    /// `max_pool` of `pool.cu`.
    pub const MAX_POOL: Kernel = of("pool", "max_pool");
    /// `avg_pool` of `pool.cu`.
    pub const AVG_POOL: Kernel = of("pool", "avg_pool");
    /// `max_pool_grad` of `pool.cu`.
    pub const MAX_POOL_GRAD: Kernel = of("pool", "max_pool_grad");
    /// `avg_pool_grad` of `pool.cu`.
    pub const AVG_POOL_GRAD: Kernel = of("pool", "avg_pool_grad");
    /// `layer_norm` of `tokens.cu`.
    pub const LAYER_NORM: Kernel = of("tokens", "layer_norm");
    /// `layer_norm_moments` of `tokens.cu`.
    pub const LAYER_NORM_MOMENTS: Kernel = of("tokens", "layer_norm_moments");
    /// `layer_norm_grad` of `tokens.cu`.
    pub const LAYER_NORM_GRAD: Kernel = of("tokens", "layer_norm_grad");
    /// `softmax` of `tokens.cu`.
    pub const SOFTMAX: Kernel = of("tokens", "softmax");
    /// `softmax_grad` of `tokens.cu`.
    pub const SOFTMAX_GRAD: Kernel = of("tokens", "softmax_grad");
    /// `tokens` of `tokens.cu`.
    pub const TOKENS: Kernel = of("tokens", "tokens");
    /// `picture_sums` of `tokens.cu`.
    pub const PICTURE_SUMS: Kernel = of("tokens", "picture_sums");
    /// `fold` of `weights.cu`.
    pub const FOLD: Kernel = of("weights", "fold");
    /// `scale_parts` of `weights.cu`.
    pub const SCALE_PARTS: Kernel = of("weights", "scale_parts");
    /// `unfold` of `weights.cu`.
    pub const UNFOLD: Kernel = of("weights", "unfold");
    /// `unfold_bias` of `weights.cu`.
    pub const UNFOLD_BIAS: Kernel = of("weights", "unfold_bias");
    /// `optimize` of `optimizer.cu`.
    pub const OPTIMIZE: Kernel = of("optimizer", "optimize");
    /// `blend` of `optimizer.cu`.
    pub const BLEND: Kernel = of("optimizer", "blend");
    /// `lerp` of `optimizer.cu`.
    pub const LERP: Kernel = of("optimizer", "lerp");
    /// `limit` of `optimizer.cu`.
    pub const LIMIT: Kernel = of("optimizer", "limit");
    /// `squares` of `optimizer.cu`.
    pub const SQUARES: Kernel = of("optimizer", "squares");
}

#[cfg(test)]
mod tests {
    use super::super::{PRELUDE, SOURCES};
    use super::FIELDS;

    /// The fields of a struct in a kernels' file, pointers as addresses.
    fn fields(source: &str, name: &str) -> Option<Vec<(String, String)>> {
        let body = source.split(&format!("struct {name} {{\n")).nth(1)?;
        let body = body.split("\n};").next()?;
        let lines = body.lines().filter(|line| !line.trim().starts_with("//"));
        let mut found = Vec::new();
        for line in lines {
            let line = line.trim().trim_end_matches(';');
            let line = line.strip_prefix("const ").unwrap_or(line);
            let line = line.strip_prefix("unsigned ").unwrap_or(line);
            let (kind, names) = line.split_once(' ')?;
            for name in names.split(',') {
                let kind = match kind {
                    _ if kind.ends_with('*') => "Address",
                    "int" => "i32",
                    "float" => "f32",
                    "double" => "f64",
                    other => other,
                };
                found.push((name.trim().to_owned(), kind.to_owned()));
            }
        }
        Some(found)
    }

    #[test]
    fn structs_are_those_of_the_kernels() {
        for (name, ours) in FIELDS {
            let mut sources = SOURCES.iter().map(|(_, source)| *source).chain([PRELUDE]);
            let theirs = sources.find_map(|source| fields(source, name));
            let ours = ours.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
            assert_eq!(theirs, Some(ours.collect()), "{name}");
        }
    }
}
