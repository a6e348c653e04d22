"""Names that users look for and do not find: whether Keras has them, and what there is here.

A module that calls ``explain`` says so in the AttributeError, or in the ImportError of ``from module import name``.
"""

from __future__ import annotations

import sys
from difflib import get_close_matches
from opcode import opmap
from types import FrameType
from typing import Any, NoReturn

# The public names of Keras 3.15, by module.
_KERAS = {
    "fastnn": """
        DTypePolicy FloatDTypePolicy Function Initializer Input InputSpec KerasTensor Layer Loss Metric Model
        Operation Optimizer Quantizer Regularizer RematScope Sequential StatelessScope SymbolicScope Variable
        activations applications backend callbacks config constraints datasets device distillation distribution
        dtype_policies export initializers layers legacy losses metrics mixed_precision models name_scope ops
        optimizers preprocessing quantizers random regularizers remat saving tree utils version visualization
        wrappers
    """,
    "fastnn.activations": """
        celu deserialize elu exponential gelu get glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh
        leaky_relu linear log_sigmoid log_softmax mish relu relu6 selu serialize sigmoid silu soft_shrink softmax
        softplus softsign sparse_plus sparse_sigmoid sparsemax squareplus swish tanh tanh_shrink threshold
    """,
    "fastnn.callbacks": """
        BackupAndRestore CSVLogger Callback CallbackList EarlyStopping History LambdaCallback
        LearningRateScheduler ModelCheckpoint OrbaxCheckpoint ProgbarLogger ReduceLROnPlateau RemoteMonitor
        SwapEMAWeights TensorBoard TerminateOnNaN
    """,
    "fastnn.constraints": """
        Constraint MaxNorm MinMaxNorm NonNeg UnitNorm deserialize get max_norm min_max_norm non_neg serialize
        unit_norm
    """,
    "fastnn.datasets": """
        boston_housing california_housing cifar10 cifar100 fashion_mnist imdb mnist reuters
    """,
    "fastnn.initializers": """
        Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity IdentityInitializer Initializer
        LecunNormal LecunUniform Ones Orthogonal OrthogonalInitializer RandomNormal RandomUniform STFT
        STFTInitializer TruncatedNormal VarianceScaling Zeros constant deserialize get glorot_normal
        glorot_uniform he_normal he_uniform identity lecun_normal lecun_uniform ones orthogonal random_normal
        random_uniform serialize stft truncated_normal variance_scaling zeros
    """,
    "fastnn.layers": """
        Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D
        AdaptiveAveragePooling3D AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D Add
        AdditiveAttention AlphaDropout Attention AugMix AutoContrast Average AveragePooling1D AveragePooling2D
        AveragePooling3D AvgPool1D AvgPool2D AvgPool3D BatchNormalization Bidirectional CategoryEncoding
        CenterCrop Concatenate ContrastLimitedAdaptiveHistogramEqualization Conv1D Conv1DTranspose Conv2D
        Conv2DTranspose Conv3D Conv3DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM3D Convolution1D
        Convolution1DTranspose Convolution2D Convolution2DTranspose Convolution3D Convolution3DTranspose
        Cropping1D Cropping2D Cropping3D CutMix Dense DepthwiseConv1D DepthwiseConv2D Discretization Dot Dropout
        ELU EinsumDense Embedding Equalization Flatten FlaxLayer GRU GRUCell GaussianDropout GaussianNoise
        GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D GlobalAvgPool1D GlobalAvgPool2D
        GlobalAvgPool3D GlobalMaxPool1D GlobalMaxPool2D GlobalMaxPool3D GlobalMaxPooling1D GlobalMaxPooling2D
        GlobalMaxPooling3D GroupNormalization GroupQueryAttention HashedCrossing Hashing Identity Input
        InputLayer InputSpec IntegerLookup JaxLayer LSTM LSTMCell Lambda Layer LayerNormalization LeakyReLU
        Masking MaxNumBoundingBoxes MaxPool1D MaxPool2D MaxPool3D MaxPooling1D MaxPooling2D MaxPooling3D Maximum
        MelSpectrogram Minimum MixUp MultiHeadAttention Multiply Normalization PReLU Permute Pipeline
        RMSNormalization RNN RandAugment RandomBrightness RandomColorDegeneration RandomColorJitter
        RandomContrast RandomCrop RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur
        RandomGrayscale RandomHue RandomInvert RandomPerspective RandomPosterization RandomRotation
        RandomSaturation RandomSharpness RandomShear RandomTranslation RandomZoom ReLU RepeatVector Rescaling
        Reshape Resizing ReversibleEmbedding STFTSpectrogram SeparableConv1D SeparableConv2D
        SeparableConvolution1D SeparableConvolution2D SimpleRNN SimpleRNNCell Softmax Solarization
        SpatialDropout1D SpatialDropout2D SpatialDropout3D SpectralNormalization StackedRNNCells StringLookup
        Subtract TFSMLayer TextVectorization TimeDistributed TorchModuleWrapper UnitNormalization UpSampling1D
        UpSampling2D UpSampling3D Wrapper ZeroPadding1D ZeroPadding2D ZeroPadding3D add average concatenate
        deserialize dot maximum minimum multiply serialize subtract
    """,
    "fastnn.losses": """
        BinaryCrossentropy BinaryFocalCrossentropy CTC CategoricalCrossentropy CategoricalFocalCrossentropy
        CategoricalGeneralizedCrossEntropy CategoricalHinge Circle CosineSimilarity Dice Hinge Huber
        KLDivergence LogCosh Loss MeanAbsoluteError MeanAbsolutePercentageError MeanSquaredError
        MeanSquaredLogarithmicError Poisson SparseCategoricalCrossentropy SquaredHinge Tversky
        binary_crossentropy binary_focal_crossentropy categorical_crossentropy categorical_focal_crossentropy
        categorical_generalized_cross_entropy categorical_hinge circle cosine_similarity ctc deserialize dice
        get hinge huber kl_divergence log_cosh mean_absolute_error mean_absolute_percentage_error
        mean_squared_error mean_squared_logarithmic_error poisson serialize sparse_categorical_crossentropy
        squared_hinge tversky
    """,
    "fastnn.metrics": """
        AUC Accuracy BinaryAccuracy BinaryCrossentropy BinaryIoU CategoricalAccuracy CategoricalCrossentropy
        CategoricalHinge ConcordanceCorrelation CosineSimilarity F1Score FBetaScore FalseNegatives
        FalsePositives Hinge IoU KLDivergence LogCoshError Mean MeanAbsoluteError MeanAbsolutePercentageError
        MeanIoU MeanMetricWrapper MeanSquaredError MeanSquaredLogarithmicError Metric OneHotIoU OneHotMeanIoU
        PearsonCorrelation Poisson Precision PrecisionAtRecall R2Score Recall RecallAtPrecision
        RootMeanSquaredError SensitivityAtSpecificity SparseCategoricalAccuracy SparseCategoricalCrossentropy
        SparseTopKCategoricalAccuracy SpecificityAtSensitivity SquaredHinge Sum TopKCategoricalAccuracy
        TrueNegatives TruePositives binary_accuracy binary_crossentropy binary_focal_crossentropy
        categorical_accuracy categorical_crossentropy categorical_focal_crossentropy categorical_hinge
        concordance_correlation deserialize get hinge huber kl_divergence log_cosh mean_absolute_error
        mean_absolute_percentage_error mean_squared_error mean_squared_logarithmic_error pearson_correlation
        poisson serialize sparse_categorical_accuracy sparse_categorical_crossentropy
        sparse_top_k_categorical_accuracy squared_hinge top_k_categorical_accuracy
    """,
    "fastnn.models": """
        Model Sequential clone_model load_model model_from_json save_model
    """,
    "fastnn.optimizers": """
        Adadelta Adafactor Adagrad Adam AdamW Adamax Ftrl Lamb Lion LossScaleOptimizer MultiOptimizer Muon Nadam
        Optimizer OptimizerMap RMSprop SGD ScheduleFreeAdamW deserialize get legacy schedules serialize
    """,
    "fastnn.optimizers.schedules": """
        CosineDecay CosineDecayRestarts ExponentialDecay InverseTimeDecay LearningRateSchedule
        PiecewiseConstantDecay PolynomialDecay deserialize serialize
    """,
    "fastnn.random": """
        SeedGenerator beta binomial categorical dropout gamma normal randint shuffle truncated_normal uniform
    """,
    "fastnn.regularizers": """
        L1 L1L2 L2 OrthogonalRegularizer Regularizer deserialize get l1 l1_l2 l2 orthogonal_regularizer
        serialize
    """,
    "fastnn.utils": """
        Config CustomObjectScope FeatureSpace Progbar PyDataset Sequence array_to_img
        audio_dataset_from_directory clear_session custom_object_scope deserialize_keras_object
        disable_interactive_logging enable_interactive_logging get_custom_objects get_file get_registered_name
        get_registered_object get_source_inputs image_dataset_from_directory img_to_array
        is_interactive_logging_enabled is_keras_tensor legacy load_img model_to_dot normalize
        pack_x_y_sample_weight pad_sequences plot_model register_keras_serializable save_img
        serialize_keras_object set_random_seed split_dataset standardize_dtype text_dataset_from_directory
        timeseries_dataset_from_array to_categorical unpack_x_y_sample_weight
    """,
}

# What does in place of some of them.
_INSTEAD = {
    "Sequence": "fit takes any object with len and [...], a PyDataset say",
    "TensorBoard": "callbacks.CSVLogger writes the figures of epochs",
    "Variable": "Layer.add_weight makes weights",
    "applications": "there are no pretrained networks; load_model reads Keras's files",
    "backend": "utils.clear_session and ops stand in its place",
    "get_file": "pooch.retrieve fetches and verifies a file",
    "saving": "models and utils have what it has",
}
# What some names of other libraries are called here.
_CALLED = {
    "fastnn.ops": {
        "binary_crossentropy": "binary_cross_entropy", "categorical_crossentropy": "cross_entropy",
        "categorical_focal_crossentropy": "categorical_focal_cross_entropy", "gemm": "matmul",
        "huber_loss": "huber", "kld": "kl_divergence", "mean_absolute_error": "mae", "mean_squared_error": "mse",
        "mean_absolute_percentage_error": "mape", "mean_squared_logarithmic_error": "msle", "mm": "matmul",
        "nll_loss": "nll", "mse_loss": "mse", "l1_loss": "mae", "sparse_categorical_crossentropy":
        "softmax_cross_entropy", "swish": "silu", "dense": "linear", "batch_normalization": "batch_norm",
        "layer_normalization": "layer_norm", "reduce_sum": "sum", "reduce_mean": "mean", "reduce_max": "max",
        "reduce_min": "min", "concat": "concatenate", "cat": "concatenate",
    },
    "fastnn": {
        "nn": "layers", "optim": "optimizers", "functional": "ops", "jit": "program", "function": "program",
        "compile": "program", "grad": "gradients", "value_and_grad": "gradients", "GradientTape": "gradients",
    },
    "fastnn.layers": {
        "Linear": "Dense", "BatchNorm": "BatchNormalization", "BatchNorm1d": "BatchNormalization",
        "BatchNorm2d": "BatchNormalization", "LayerNorm": "LayerNormalization", "Sigmoid": "Activation",
        "Tanh": "Activation", "GELU": "Activation", "SiLU": "Activation", "MaxPool2d": "MaxPooling2D",
        "AvgPool2d": "AveragePooling2D", "RNNCell": "SimpleRNNCell", "ConvTranspose2d": "Conv2DTranspose",
    },
    "fastnn.losses": {
        "CrossEntropyLoss": "SparseCategoricalCrossentropy", "MSELoss": "MeanSquaredError",
        "L1Loss": "MeanAbsoluteError", "BCELoss": "BinaryCrossentropy", "BCEWithLogitsLoss": "BinaryCrossentropy",
        "SmoothL1Loss": "Huber", "KLDivLoss": "KLDivergence",
    },
}  # fmt: skip
# Of how many names a message tells all, and how many come near in one that does not.
_MOST, _NEAR = 64, 6


def explain(module: str) -> None:
    """Let ``module``, whose public names are in its ``__all__``, say what it has where a name is missing."""

    def missing(name: str) -> NoReturn:
        raise error(module, name, sys._getframe(1))

    vars(sys.modules[module])["__getattr__"] = missing


def error(module: str, name: str, caller: FrameType) -> Exception:
    """What to raise where ``caller`` looks for a name that a module lacks."""
    if name.startswith("__"):
        return AttributeError(f"module {module!r} has no attribute {name!r}")
    message = _message(module, name)
    # `from module import name` drops the message of an AttributeError
    imports = caller.f_code.co_code[caller.f_lasti] == opmap["IMPORT_FROM"]
    return ImportError(message, name=module) if imports else AttributeError(message)


def _message(module: str, name: str) -> str:
    known: Any = vars(sys.modules[module])["__all__"]
    public = sorted((each for each in known if not each.startswith("__")), key=str.lower)
    called, near = _CALLED.get(module, {}).get(name), get_close_matches(name, public, n=_NEAR, cutoff=0.5)
    hint = ""
    # nothing is imported to find out: `from fastnn import checks` comes here before there is such a module
    below = [part for part, names in _KERAS.items() if part.startswith(f"{module}.") and name in names.split()]
    if below:
        hint = f" (did you mean {below[0]}.{name}?)"
    elif name in _KERAS.get(module, "").split():
        hint = f", which Keras has ({_INSTEAD[name]})" if name in _INSTEAD else ", which Keras has"
    elif called or near[:1] == get_close_matches(name, public, n=1) != []:
        hint = f" (did you mean {called or near[0]!r}?)"
    if len(public) <= _MOST:
        return f"{module} has no attribute {name!r}{hint}; it has {', '.join(public)}"
    nearest = f"near it are {', '.join(near)}; " if near else ""
    return f"{module} has no attribute {name!r}{hint}; {nearest}dir({module}) lists all {len(public)}"
