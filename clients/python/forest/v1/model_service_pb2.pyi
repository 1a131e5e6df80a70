from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ModelState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_STATE_UNSPECIFIED: _ClassVar[ModelState]
    MODEL_STATE_SERVING: _ClassVar[ModelState]
    MODEL_STATE_REFUSED: _ClassVar[ModelState]

class Task(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TASK_UNSPECIFIED: _ClassVar[Task]
    TASK_BINARY_CLASSIFICATION: _ClassVar[Task]
    TASK_REGRESSION: _ClassVar[Task]
MODEL_STATE_UNSPECIFIED: ModelState
MODEL_STATE_SERVING: ModelState
MODEL_STATE_REFUSED: ModelState
TASK_UNSPECIFIED: Task
TASK_BINARY_CLASSIFICATION: Task
TASK_REGRESSION: Task

class ListModelsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "next_page_token")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    next_page_token: str
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("model", "version")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "version", "digest", "state", "state_reason", "default_version", "description", "task", "features", "labels", "threshold", "risk_levels", "metrics", "lineage", "interval_coverage", "interval_method", "max_batch_rows")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Metric
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Metric, _Mapping]] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STATE_REASON_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_VERSION_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    RISK_LEVELS_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_COVERAGE_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_METHOD_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_ROWS_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    digest: str
    state: ModelState
    state_reason: str
    default_version: bool
    description: str
    task: Task
    features: _containers.RepeatedCompositeFieldContainer[Feature]
    labels: _containers.RepeatedScalarFieldContainer[str]
    threshold: float
    risk_levels: _containers.RepeatedCompositeFieldContainer[RiskLevel]
    metrics: _containers.MessageMap[str, Metric]
    lineage: Lineage
    interval_coverage: float
    interval_method: str
    max_batch_rows: int
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., digest: _Optional[str] = ..., state: _Optional[_Union[ModelState, str]] = ..., state_reason: _Optional[str] = ..., default_version: bool = ..., description: _Optional[str] = ..., task: _Optional[_Union[Task, str]] = ..., features: _Optional[_Iterable[_Union[Feature, _Mapping]]] = ..., labels: _Optional[_Iterable[str]] = ..., threshold: _Optional[float] = ..., risk_levels: _Optional[_Iterable[_Union[RiskLevel, _Mapping]]] = ..., metrics: _Optional[_Mapping[str, Metric]] = ..., lineage: _Optional[_Union[Lineage, _Mapping]] = ..., interval_coverage: _Optional[float] = ..., interval_method: _Optional[str] = ..., max_batch_rows: _Optional[int] = ...) -> None: ...

class Feature(_message.Message):
    __slots__ = ("name", "type", "description", "minimum", "maximum", "out_of_range", "categories", "missing")
    class Type(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        TYPE_UNSPECIFIED: _ClassVar[Feature.Type]
        TYPE_NUMBER: _ClassVar[Feature.Type]
        TYPE_CATEGORY: _ClassVar[Feature.Type]
        TYPE_FLAG: _ClassVar[Feature.Type]
    TYPE_UNSPECIFIED: Feature.Type
    TYPE_NUMBER: Feature.Type
    TYPE_CATEGORY: Feature.Type
    TYPE_FLAG: Feature.Type
    class Missing(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        MISSING_UNSPECIFIED: _ClassVar[Feature.Missing]
        MISSING_REJECT: _ClassVar[Feature.Missing]
        MISSING_IMPUTE: _ClassVar[Feature.Missing]
    MISSING_UNSPECIFIED: Feature.Missing
    MISSING_REJECT: Feature.Missing
    MISSING_IMPUTE: Feature.Missing
    class OutOfRange(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OUT_OF_RANGE_UNSPECIFIED: _ClassVar[Feature.OutOfRange]
        OUT_OF_RANGE_WARN: _ClassVar[Feature.OutOfRange]
        OUT_OF_RANGE_REJECT: _ClassVar[Feature.OutOfRange]
    OUT_OF_RANGE_UNSPECIFIED: Feature.OutOfRange
    OUT_OF_RANGE_WARN: Feature.OutOfRange
    OUT_OF_RANGE_REJECT: Feature.OutOfRange
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    OUT_OF_RANGE_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: Feature.Type
    description: str
    minimum: float
    maximum: float
    out_of_range: Feature.OutOfRange
    categories: _containers.RepeatedScalarFieldContainer[str]
    missing: Feature.Missing
    def __init__(self, name: _Optional[str] = ..., type: _Optional[_Union[Feature.Type, str]] = ..., description: _Optional[str] = ..., minimum: _Optional[float] = ..., maximum: _Optional[float] = ..., out_of_range: _Optional[_Union[Feature.OutOfRange, str]] = ..., categories: _Optional[_Iterable[str]] = ..., missing: _Optional[_Union[Feature.Missing, str]] = ...) -> None: ...

class RiskLevel(_message.Message):
    __slots__ = ("name", "minimum")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    name: str
    minimum: float
    def __init__(self, name: _Optional[str] = ..., minimum: _Optional[float] = ...) -> None: ...

class Metric(_message.Message):
    __slots__ = ("value", "low", "high")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    value: float
    low: float
    high: float
    def __init__(self, value: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ...) -> None: ...

class Lineage(_message.Message):
    __slots__ = ("recipe", "data", "data_digest", "rows", "seed", "libraries", "parameters")
    class LibrariesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    DATA_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    LIBRARIES_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    recipe: str
    data: str
    data_digest: str
    rows: int
    seed: int
    libraries: _containers.ScalarMap[str, str]
    parameters: _containers.ScalarMap[str, str]
    def __init__(self, recipe: _Optional[str] = ..., data: _Optional[str] = ..., data_digest: _Optional[str] = ..., rows: _Optional[int] = ..., seed: _Optional[int] = ..., libraries: _Optional[_Mapping[str, str]] = ..., parameters: _Optional[_Mapping[str, str]] = ...) -> None: ...
