from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PredictRequest(_message.Message):
    __slots__ = ("model", "version", "record", "vector", "request_id")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    record: Record
    vector: Vector
    request_id: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., record: _Optional[_Union[Record, _Mapping]] = ..., vector: _Optional[_Union[Vector, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class Record(_message.Message):
    __slots__ = ("features",)
    class FeaturesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    features: _containers.MessageMap[str, Value]
    def __init__(self, features: _Optional[_Mapping[str, Value]] = ...) -> None: ...

class Value(_message.Message):
    __slots__ = ("number", "text", "flag")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FLAG_FIELD_NUMBER: _ClassVar[int]
    number: float
    text: str
    flag: bool
    def __init__(self, number: _Optional[float] = ..., text: _Optional[str] = ..., flag: bool = ...) -> None: ...

class Vector(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, values: _Optional[_Iterable[float]] = ...) -> None: ...

class PredictBatchRequest(_message.Message):
    __slots__ = ("model", "version", "records", "matrix", "request_id")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    MATRIX_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    records: Records
    matrix: Matrix
    request_id: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., records: _Optional[_Union[Records, _Mapping]] = ..., matrix: _Optional[_Union[Matrix, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class PredictStreamRequest(_message.Message):
    __slots__ = ("model", "version", "record", "vector", "records", "matrix", "request_id")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    MATRIX_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    record: Record
    vector: Vector
    records: Records
    matrix: Matrix
    request_id: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., record: _Optional[_Union[Record, _Mapping]] = ..., vector: _Optional[_Union[Vector, _Mapping]] = ..., records: _Optional[_Union[Records, _Mapping]] = ..., matrix: _Optional[_Union[Matrix, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class Records(_message.Message):
    __slots__ = ("records",)
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[Record]
    def __init__(self, records: _Optional[_Iterable[_Union[Record, _Mapping]]] = ...) -> None: ...

class Matrix(_message.Message):
    __slots__ = ("rows", "columns", "data")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    rows: int
    columns: int
    data: bytes
    def __init__(self, rows: _Optional[int] = ..., columns: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class PredictResponse(_message.Message):
    __slots__ = ("request_id", "model", "version", "digest", "classification", "regression", "warnings")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    CLASSIFICATION_FIELD_NUMBER: _ClassVar[int]
    REGRESSION_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    version: str
    digest: str
    classification: Classification
    regression: Regression
    warnings: _containers.RepeatedCompositeFieldContainer[InputWarning]
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[str] = ..., digest: _Optional[str] = ..., classification: _Optional[_Union[Classification, _Mapping]] = ..., regression: _Optional[_Union[Regression, _Mapping]] = ..., warnings: _Optional[_Iterable[_Union[InputWarning, _Mapping]]] = ...) -> None: ...

class PredictBatchResponse(_message.Message):
    __slots__ = ("request_id", "model", "version", "digest", "classifications", "regressions", "warnings")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    CLASSIFICATIONS_FIELD_NUMBER: _ClassVar[int]
    REGRESSIONS_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    version: str
    digest: str
    classifications: Classifications
    regressions: Regressions
    warnings: _containers.RepeatedCompositeFieldContainer[BatchWarning]
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[str] = ..., digest: _Optional[str] = ..., classifications: _Optional[_Union[Classifications, _Mapping]] = ..., regressions: _Optional[_Union[Regressions, _Mapping]] = ..., warnings: _Optional[_Iterable[_Union[BatchWarning, _Mapping]]] = ...) -> None: ...

class PredictStreamResponse(_message.Message):
    __slots__ = ("request_id", "model", "version", "digest", "classification", "regression", "classifications", "regressions", "error", "warnings", "batch_warnings")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    CLASSIFICATION_FIELD_NUMBER: _ClassVar[int]
    REGRESSION_FIELD_NUMBER: _ClassVar[int]
    CLASSIFICATIONS_FIELD_NUMBER: _ClassVar[int]
    REGRESSIONS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    BATCH_WARNINGS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    version: str
    digest: str
    classification: Classification
    regression: Regression
    classifications: Classifications
    regressions: Regressions
    error: _status_pb2.Status
    warnings: _containers.RepeatedCompositeFieldContainer[InputWarning]
    batch_warnings: _containers.RepeatedCompositeFieldContainer[BatchWarning]
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[str] = ..., digest: _Optional[str] = ..., classification: _Optional[_Union[Classification, _Mapping]] = ..., regression: _Optional[_Union[Regression, _Mapping]] = ..., classifications: _Optional[_Union[Classifications, _Mapping]] = ..., regressions: _Optional[_Union[Regressions, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., warnings: _Optional[_Iterable[_Union[InputWarning, _Mapping]]] = ..., batch_warnings: _Optional[_Iterable[_Union[BatchWarning, _Mapping]]] = ...) -> None: ...

class Classification(_message.Message):
    __slots__ = ("label", "probability", "threshold", "risk_level")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    RISK_LEVEL_FIELD_NUMBER: _ClassVar[int]
    label: str
    probability: float
    threshold: float
    risk_level: str
    def __init__(self, label: _Optional[str] = ..., probability: _Optional[float] = ..., threshold: _Optional[float] = ..., risk_level: _Optional[str] = ...) -> None: ...

class Classifications(_message.Message):
    __slots__ = ("probabilities", "label_indices", "risk_level_indices", "labels", "risk_levels", "threshold")
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    LABEL_INDICES_FIELD_NUMBER: _ClassVar[int]
    RISK_LEVEL_INDICES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    RISK_LEVELS_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    probabilities: _containers.RepeatedScalarFieldContainer[float]
    label_indices: _containers.RepeatedScalarFieldContainer[int]
    risk_level_indices: _containers.RepeatedScalarFieldContainer[int]
    labels: _containers.RepeatedScalarFieldContainer[str]
    risk_levels: _containers.RepeatedScalarFieldContainer[str]
    threshold: float
    def __init__(self, probabilities: _Optional[_Iterable[float]] = ..., label_indices: _Optional[_Iterable[int]] = ..., risk_level_indices: _Optional[_Iterable[int]] = ..., labels: _Optional[_Iterable[str]] = ..., risk_levels: _Optional[_Iterable[str]] = ..., threshold: _Optional[float] = ...) -> None: ...

class Regression(_message.Message):
    __slots__ = ("value", "interval")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    value: float
    interval: Interval
    def __init__(self, value: _Optional[float] = ..., interval: _Optional[_Union[Interval, _Mapping]] = ...) -> None: ...

class Regressions(_message.Message):
    __slots__ = ("values", "lows", "highs", "coverage")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    LOWS_FIELD_NUMBER: _ClassVar[int]
    HIGHS_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    lows: _containers.RepeatedScalarFieldContainer[float]
    highs: _containers.RepeatedScalarFieldContainer[float]
    coverage: float
    def __init__(self, values: _Optional[_Iterable[float]] = ..., lows: _Optional[_Iterable[float]] = ..., highs: _Optional[_Iterable[float]] = ..., coverage: _Optional[float] = ...) -> None: ...

class Interval(_message.Message):
    __slots__ = ("low", "high", "coverage")
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    low: float
    high: float
    coverage: float
    def __init__(self, low: _Optional[float] = ..., high: _Optional[float] = ..., coverage: _Optional[float] = ...) -> None: ...

class InputWarning(_message.Message):
    __slots__ = ("feature", "reason", "message")
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        REASON_UNSPECIFIED: _ClassVar[InputWarning.Reason]
        REASON_OUT_OF_TRAINING_RANGE: _ClassVar[InputWarning.Reason]
    REASON_UNSPECIFIED: InputWarning.Reason
    REASON_OUT_OF_TRAINING_RANGE: InputWarning.Reason
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    feature: str
    reason: InputWarning.Reason
    message: str
    def __init__(self, feature: _Optional[str] = ..., reason: _Optional[_Union[InputWarning.Reason, str]] = ..., message: _Optional[str] = ...) -> None: ...

class BatchWarning(_message.Message):
    __slots__ = ("feature", "reason", "message", "rows")
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    feature: str
    reason: InputWarning.Reason
    message: str
    rows: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, feature: _Optional[str] = ..., reason: _Optional[_Union[InputWarning.Reason, str]] = ..., message: _Optional[str] = ..., rows: _Optional[_Iterable[int]] = ...) -> None: ...
