//! Products by cuBLASLt, whose ways through each shape are looked up once.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Mutex, PoisonError};

use cudarc::cublaslt::sys::{
    self, cublasComputeType_t as Compute, cublasLtEpilogue_t as End, cublasLtHandle_t,
    cublasLtMatmulAlgo_t, cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t as Attribute,
    cublasLtMatmulHeuristicResult_t, cublasLtMatmulPreferenceAttributes_t as Preference,
    cublasLtMatrixLayout_t, cublasLtMatrixLayoutAttribute_t as Layout, cublasStatus_t,
    cudaDataType_t as Type,
};

use super::super::{Address, Block, Epilogue, GpuError, Matrix, Product, Real, Result};
use super::driver::Driver;
use crate::precision::Precision;

/// Memory that products may take on the way.
pub(super) const WORKSPACE: usize = 64 << 20;

/// Ways through a product that are tried.
const TRIED: usize = 8;

fn check(what: &str, status: cublasStatus_t) -> Result<()> {
    match status {
        cublasStatus_t::CUBLAS_STATUS_SUCCESS => Ok(()),
        status => Err(GpuError(format!("cuBLASLt failed to {what}: {status:?}"))),
    }
}

fn type_of(real: Real) -> Type {
    match real {
        Real::Single => Type::CUDA_R_32F,
        Real::Brain => Type::CUDA_R_16BF,
    }
}

/// What a plan depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    size: [usize; 3],
    /// Row, whether it is turned, stride; of all three.
    matrices: [(usize, bool, usize); 3],
    count: usize,
    add: bool,
    residual: bool,
    bias: bool,
    relu: bool,
    real: Real,
    output: Real,
}

/// How a product is computed.
#[derive(Debug, Clone, Copy)]
struct Plan {
    product: cublasLtMatmulDesc_t,
    layouts: [cublasLtMatrixLayout_t; 3],
    algorithm: cublasLtMatmulAlgo_t,
}

/// All products of a device.
#[derive(Debug)]
pub(super) struct Products {
    handle: cublasLtHandle_t,
    workspace: Block,
    precision: Precision,
    deterministic: bool,
    plans: Mutex<HashMap<Key, Plan>>,
}

// SAFETY: cuBLASLt's handle may be used from several threads; plans are changed under the lock.
unsafe impl Send for Products {}
// SAFETY: as above.
unsafe impl Sync for Products {}

impl Products {
    pub(super) fn new(workspace: Block, precision: Precision, deterministic: bool) -> Result<Self> {
        let mut handle = std::ptr::null_mut();
        // SAFETY: the handle is there to be written.
        check("start", unsafe { sys::cublasLtCreate(&raw mut handle) })?;
        Ok(Self {
            handle,
            workspace,
            precision,
            deterministic,
            plans: Mutex::default(),
        })
    }

    pub(super) fn run(&self, driver: &Driver, product: &Product, epilogue: Epilogue) -> Result<()> {
        driver.enter()?;
        let of = |matrix: Matrix| (matrix.row, matrix.transposed, matrix.stride);
        let key = Key {
            size: product.size,
            matrices: [of(product.a), of(product.b), of(product.c)],
            count: product.count,
            add: product.add,
            residual: epilogue.residual.is_some(),
            bias: epilogue.bias.is_some(),
            relu: epilogue.relu,
            real: product.real,
            output: product.output,
        };
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        let plan = match plans.get(&key) {
            Some(plan) => *plan,
            None => {
                let plan = self.plan(driver, &key, product, epilogue)?;
                plans.insert(key, plan);
                plan
            }
        };
        if let Some(bias) = epilogue.bias {
            set_bias(&plan, bias.real)?;
        }
        check("multiply", self.launch(driver, &plan, product, epilogue))
    }

    fn launch(
        &self,
        driver: &Driver,
        plan: &Plan,
        product: &Product,
        epilogue: Epilogue,
    ) -> cublasStatus_t {
        let beta: f32 = if product.add || epilogue.residual.is_some() {
            1.0
        } else {
            0.0
        };
        let pointer = |address: Address| address as *const c_void;
        let c = epilogue.residual.unwrap_or(product.c.address);
        let [first, second, output] = plan.layouts;
        // SAFETY: the descriptions are those of the memory that the caller names.
        unsafe {
            sys::cublasLtMatmul(
                self.handle,
                plan.product,
                (&raw const product.alpha).cast(),
                pointer(product.b.address),
                first,
                pointer(product.a.address),
                second,
                (&raw const beta).cast(),
                pointer(c),
                output,
                pointer(product.c.address).cast_mut(),
                output,
                &raw const plan.algorithm,
                pointer(self.workspace.address()).cast_mut(),
                self.workspace.bytes(),
                driver.stream.cast(),
            )
        }
    }

    /// The way that is fastest here, or the first that is proposed where results must be the same in
    /// every run.
    fn plan(
        &self,
        driver: &Driver,
        key: &Key,
        product: &Product,
        epilogue: Epilogue,
    ) -> Result<Plan> {
        let found = self.found(key)?;
        let Some(&first) = found.first() else {
            return Err(GpuError(format!(
                "cuBLASLt knows no way to multiply {key:?}"
            )));
        };
        if let Some(bias) = epilogue.bias {
            set_bias(&first, bias.real)?;
        }
        // What is added to would be added to again.
        if self.deterministic || product.add || found.len() == 1 {
            return Ok(first);
        }
        let events = [driver.event(true)?, driver.event(true)?];
        let mut best: Option<(f32, Plan)> = None;
        for plan in found {
            let mut time = f32::INFINITY;
            for _ in 0..3 {
                driver.record(events[0])?;
                let status = self.launch(driver, &plan, product, epilogue);
                driver.record(events[1])?;
                driver.wait_for(events[1])?;
                if status == cublasStatus_t::CUBLAS_STATUS_SUCCESS {
                    time = time.min(driver.between(events)?);
                }
            }
            if best.is_none_or(|(least, _)| time < least) {
                best = Some((time, plan));
            }
        }
        Ok(best.map_or(first, |(_, plan)| plan))
    }

    /// Ways through a product, the most promising first. Rows here are columns there: what is
    /// computed is the transpose, of the matrices the other way round.
    fn found(&self, key: &Key) -> Result<Vec<Plan>> {
        let compute = match (self.precision, key.real) {
            (Precision::Tf32, Real::Single) => Compute::CUBLAS_COMPUTE_32F_FAST_TF32,
            _ => Compute::CUBLAS_COMPUTE_32F,
        };
        let [rows, columns, inner] = key.size;
        let [a, b, c] = key.matrices;
        let stored = |across: usize, down: usize, turned: bool| match turned {
            true => [down, across],
            false => [across, down],
        };
        let (real, output) = (type_of(key.real), type_of(key.output));
        let mut product = std::ptr::null_mut();
        let mut preference = std::ptr::null_mut();
        // SAFETY: what is written is there to be written; descriptions are never destroyed, as plans
        // are kept for good.
        unsafe {
            let created =
                sys::cublasLtMatmulDescCreate(&raw mut product, compute, Type::CUDA_R_32F);
            check("describe a product", created)?;
            let created = sys::cublasLtMatmulPreferenceCreate(&raw mut preference);
            check("take preferences", created)?;
        }
        let turned = |turned: bool| u32::from(turned);
        set(
            product,
            Attribute::CUBLASLT_MATMUL_DESC_TRANSA,
            &turned(b.1),
        )?;
        set(
            product,
            Attribute::CUBLASLT_MATMUL_DESC_TRANSB,
            &turned(a.1),
        )?;
        let end = match (key.bias, key.relu) {
            (false, false) => End::CUBLASLT_EPILOGUE_DEFAULT,
            (true, false) => End::CUBLASLT_EPILOGUE_BIAS,
            (false, true) => End::CUBLASLT_EPILOGUE_RELU,
            (true, true) => End::CUBLASLT_EPILOGUE_RELU_BIAS,
        };
        set(
            product,
            Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE,
            &(end as u32),
        )?;
        let layouts = [
            self.layout(real, stored(columns, inner, b.1), b, key.count)?,
            self.layout(real, stored(inner, rows, a.1), a, key.count)?,
            self.layout(output, [columns, rows], c, key.count)?,
        ];
        let wish = |attribute: Preference, value: *const c_void, size: usize| {
            // SAFETY: the value is as large as is said.
            let result = unsafe {
                sys::cublasLtMatmulPreferenceSetAttribute(preference, attribute, value, size)
            };
            check("take a preference", result)
        };
        let bytes = self.workspace.bytes() as u64;
        let most = Preference::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
        wish(most, (&raw const bytes).cast(), size_of_val(&bytes))?;
        if self.deterministic {
            // Partial sums are added in one order, in f32.
            let scheme = 2u32;
            let mask = Preference::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK;
            wish(mask, (&raw const scheme).cast(), size_of_val(&scheme))?;
        }
        let empty = cublasLtMatmulHeuristicResult_t {
            algo: cublasLtMatmulAlgo_t { data: [0; 8] },
            workspaceSize: 0,
            state: cublasStatus_t::CUBLAS_STATUS_SUCCESS,
            wavesCount: 0.0,
            reserved: [0; 4],
        };
        let mut results = [empty; TRIED];
        let mut count = 0;
        let [first, second, third] = layouts;
        // SAFETY: there is room for as many results as are asked for.
        let status = unsafe {
            sys::cublasLtMatmulAlgoGetHeuristic(
                self.handle,
                product,
                first,
                second,
                third,
                third,
                preference,
                TRIED as i32,
                results.as_mut_ptr(),
                &raw mut count,
            )
        };
        check(&format!("find a way through {key:?}"), status)?;
        let found = results.iter().take(count.max(0) as usize);
        let usable = found.filter(|it| it.state == cublasStatus_t::CUBLAS_STATUS_SUCCESS);
        let plan = |result: &cublasLtMatmulHeuristicResult_t| Plan {
            product,
            layouts,
            algorithm: result.algo,
        };
        Ok(usable.map(plan).collect())
    }

    fn layout(
        &self,
        kind: Type,
        [rows, columns]: [usize; 2],
        (row, _, stride): (usize, bool, usize),
        count: usize,
    ) -> Result<cublasLtMatrixLayout_t> {
        let mut layout = std::ptr::null_mut();
        // SAFETY: the layout is there to be written.
        let created = unsafe {
            let (rows, columns) = (rows as u64, columns as u64);
            sys::cublasLtMatrixLayoutCreate(&raw mut layout, kind, rows, columns, row as i64)
        };
        check("describe a matrix", created)?;
        if count > 1 {
            let (count, stride) = (count as i32, stride as i64);
            // SAFETY: the values are as large as is said.
            unsafe {
                let (count, size) = ((&raw const count).cast(), size_of_val(&count));
                let attribute = Layout::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT;
                let result = sys::cublasLtMatrixLayoutSetAttribute(layout, attribute, count, size);
                check("describe several matrices", result)?;
                let (stride, size) = ((&raw const stride).cast(), size_of_val(&stride));
                let attribute = Layout::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET;
                let result = sys::cublasLtMatrixLayoutSetAttribute(layout, attribute, stride, size);
                check("describe several matrices", result)?;
            }
        }
        Ok(layout)
    }
}

fn set_bias(plan: &Plan, bias: Address) -> Result<()> {
    let attribute = Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER;
    set(plan.product, attribute, &bias)
}

fn set<T>(product: cublasLtMatmulDesc_t, attribute: Attribute, value: &T) -> Result<()> {
    let pointer = std::ptr::from_ref(value).cast();
    // SAFETY: the value is as large as is said.
    let result =
        unsafe { sys::cublasLtMatmulDescSetAttribute(product, attribute, pointer, size_of::<T>()) };
    check("describe a product", result)
}
