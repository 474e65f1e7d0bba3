"""How raw items become samples: what a recipe says to curation, validated when made. `manifests.recipe.Recipe` holds one."""

from __future__ import annotations

from dataclasses import dataclass, field

from manifests.require import require as _require


@dataclass(frozen=True, kw_only=True)
class VideoForm:
    """One way in which a video becomes samples: 15 s segments, 15 min windows, or the whole.

    Attributes:
        name: ``segment``, ``window`` or ``whole``.
        max_s: longest clip of this form, in seconds.
        visual_budget: visual tokens that the longest clip may cost (before the adaptive factor).
    """

    name: str
    max_s: float
    visual_budget: int

    def __post_init__(self) -> None:
        _require(self.max_s > 0, f"video form {self.name}: max_s={self.max_s} must be above 0")
        _require(self.visual_budget > 0, f"video form {self.name}: visual_budget={self.visual_budget} must be above 0")


@dataclass(frozen=True, kw_only=True)
class DocumentSpec:
    """How documents are read.

    Attributes:
        bytes_max: a larger PDF, Office file or e-book is quarantined, packed or unpacked.
        text_bytes_max: a larger text or HTML file is quarantined.
        tables_max: tables of one document that become samples of their own, at most.
        recognise: whether pages without a text layer are recognised (OCR).
        confidence_min: mean confidence, weighted by characters, under which a recognised page is not kept.
        augmented_share: share of page pictures that are shown once more as a bad photograph of the page would look.
        augmentation_seed: what the choice of those pages and their damage depend on, besides source and page.
        source_trees: whether a folder that is a software project or a series of documents becomes samples as a whole.
        together: whether short documents of different sources are put together, with a question for one of them.
    """

    bytes_max: int = 256 * 2**20
    text_bytes_max: int = 64 * 2**20
    tables_max: int = 200
    recognise: bool = True
    confidence_min: float = 0.7
    augmented_share: float = 0.0
    augmentation_seed: int = 17
    source_trees: bool = True
    together: bool = False

    def __post_init__(self) -> None:
        _require(self.bytes_max > 0, f"documents: bytes_max={self.bytes_max} must be above 0")
        _require(self.text_bytes_max > 0, f"documents: text_bytes_max={self.text_bytes_max} must be above 0")
        _require(self.tables_max >= 0, f"documents: tables_max={self.tables_max} must not be negative")
        _require(0 <= self.confidence_min <= 1, f"documents: confidence_min={self.confidence_min} must be in [0, 1]")
        _require(0 <= self.augmented_share <= 1, f"documents: augmented_share={self.augmented_share} must be in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class QualitySpec:
    """What is good enough, beyond being readable. A threshold judges the score of that name; see `pipelines.quality`.

    Attributes:
        sharpness_min: variance of the Laplacian under which a picture or film counts as blurred.
        black_share_max: share of a film's time that may be black.
        frozen_share_max: share of a film's time in which the picture may stand still; 1 allows screencasts that hardly move.
        letterbox_share_max: share of a picture or film that may be black bars.
        languages: ISO 639-1 codes of the languages that are kept; empty keeps all.
        language_certainty_min: probability from which a text counts as another language; below it, it is kept.
        text_rules: names of the rules of `pipelines.text_quality` that drop a text.
        clip_model: an open_clip model (folder or hub id) that scores captions and finds semantic duplicates; empty for none.
        clip_score_min: cosine of picture and caption below which a sample is dropped; None drops none.
        semantic_similarity: cosine of two sources' embeddings from which they are duplicates; 1 finds none.
        hooks: ``module:function`` of the user's own judges (`pipelines.hooks`), for unsafe content, personal data and the like.
        benchmarks: files and folders of evaluation data; what nearly copies them is dropped (`manifests.benchmarks`).
    """

    sharpness_min: float = 3.0
    black_share_max: float = 0.9
    frozen_share_max: float = 1.0
    letterbox_share_max: float = 0.75
    languages: tuple[str, ...] = ()
    language_certainty_min: float = 0.9
    text_rules: tuple[str, ...] = ("repetition", "symbols", "no_words", "filler")
    clip_model: str = ""
    clip_score_min: float | None = None
    semantic_similarity: float = 0.95
    hooks: tuple[str, ...] = ()
    benchmarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require(self.sharpness_min >= 0, f"quality: sharpness_min={self.sharpness_min} must not be negative")
        for name in ("black_share_max", "frozen_share_max", "letterbox_share_max", "language_certainty_min"):
            _require(0 <= getattr(self, name) <= 1, f"quality: {name}={getattr(self, name)} must be in [0, 1]")
        for code in self.languages:
            right = len(code) == 2 and code.isalpha() and code.islower()
            _require(right, f"quality: language {code!r} must be a two-letter ISO 639-1 code such as 'en'")
        scored = self.clip_score_min is None or bool(self.clip_model)
        _require(scored, f"quality: clip_score_min={self.clip_score_min} needs a clip_model")
        _require(
            self.clip_score_min is None or -1 <= self.clip_score_min <= 1,
            f"quality: clip_score_min={self.clip_score_min} must be in [-1, 1]",
        )
        _require(
            0 < self.semantic_similarity <= 1, f"quality: semantic_similarity={self.semantic_similarity} must be in (0, 1]"
        )
        for hook in self.hooks:
            module, _, function = hook.partition(":")
            _require(bool(module and function), f"quality: hook {hook!r} must be 'module:function'")


@dataclass(frozen=True, kw_only=True)
class CaptionSpec:
    """Captions by a model, for pictures and videos beside which no caption lies: any OpenAI-compatible endpoint.

    Attributes:
        endpoint: URL that ``/chat/completions`` is put behind, such as ``http://localhost:8000/v1``.
        model: the name by which the endpoint knows the model; answers are kept under it, wherever the endpoint is.
        api_key_env: environment variable that holds the key; None for an endpoint without one. The key is never written.
        prompts: version of the questions (`pipelines.captioner.PROMPTS`).
        scene_max_s: a longer shot is described in pieces of at most this many seconds.
        frames_max: frames shown of a scene, at most.
        pixels_max: a larger picture is shown smaller.
        max_tokens: length of an answer; one that is cut off there is not used.
        concurrency: requests in flight at once, of all processes of a machine together.
        timeout_s: seconds after which a call is given up.
        retries: further calls for a request that failed for a passing reason.
        requests_per_minute: calls of a machine, at most; 0 for no limit.
        cache: a folder outside the corpus in which answers are kept for other curations.
    """

    endpoint: str
    model: str
    api_key_env: str | None = None
    prompts: int = 1
    scene_max_s: float = 15.0
    frames_max: int = 8
    pixels_max: int = 1_003_520
    max_tokens: int = 512
    concurrency: int = 16
    timeout_s: float = 120.0
    retries: int = 5
    requests_per_minute: float = 0.0
    cache: str | None = None

    def __post_init__(self) -> None:
        web = self.endpoint.startswith(("http://", "https://"))
        _require(web, f"captions: endpoint={self.endpoint!r} must begin with http:// or https://")
        _require("@" not in self.endpoint, "captions: endpoint names a user or password: put the key into api_key_env")
        _require(bool(self.model), "captions: model is empty: give the name by which the endpoint knows it")
        _require(self.prompts >= 1, f"captions: prompts={self.prompts} must be at least 1")
        _require(self.scene_max_s >= 1, f"captions: scene_max_s={self.scene_max_s} must be at least 1")
        _require(self.frames_max >= 1, f"captions: frames_max={self.frames_max} must be at least 1")
        _require(self.pixels_max >= 784, f"captions: pixels_max={self.pixels_max} must be at least 784, one visual token")
        _require(self.max_tokens >= 1, f"captions: max_tokens={self.max_tokens} must be at least 1")
        _require(1 <= self.concurrency <= 1024, f"captions: concurrency={self.concurrency} must be between 1 and 1024")
        _require(self.timeout_s > 0, f"captions: timeout_s={self.timeout_s} must be above 0")
        _require(0 <= self.retries <= 20, f"captions: retries={self.retries} must be between 0 and 20")
        _require(
            self.requests_per_minute >= 0, f"captions: requests_per_minute={self.requests_per_minute} must not be negative"
        )

    @property
    def words_depend_on(self) -> dict[str, str | int | float]:
        """The fields that an answer depends on; the others say how it is fetched."""
        names = ("model", "prompts", "scene_max_s", "frames_max", "pixels_max", "max_tokens")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class CurateSpec:
    """How raw items become samples.

    Attributes:
        video_forms: how a video is cut, shortest first.
        text_tokens_min: a document or chunk of fewer tokens is dropped as too short.
        jpeg_quality: quality of stored pictures, 1 to 95.
        stored_tokens_max: stored pictures are no larger than this many visual tokens.
        pasted_per_screen: counting and grounding pictures made of each screenshot's controls (`pipelines.pasted_screens`).
        shard_bytes: media bytes of a shard, about.
        rows_per_file: samples of a Parquet file, at most about.
        near_text_similarity: estimated Jaccard similarity of 5-word shingles from which two documents are near-duplicates.
        near_image_bits: Hamming distance of 64-bit perceptual hashes up to which two pictures are near-duplicates; of the 56
            bits of their outlines at most 4.
        heldout_share: share of sources (by hash of their duplicate cluster) kept for evaluation.
        loss_limit: quarantined share of inputs above which curation ends with exit code 3.
        item_time_limit_s: seconds after which one input is given up and quarantined.
        item_bytes_max: a larger input is quarantined.
        excluded_licences: SPDX identifiers whose sources are dropped.
        every_frame_max_s: a longer video is decoded only as far as its grid and its shots need (`pipelines.looking`).
        documents: how documents are read.
        quality: what is good enough.
        captions: how what nobody has described is captioned by a model; None: it is not.
        item_memory_max: bytes of memory above which the process that reads an input is ended and the input quarantined.
        keep_items: whether finished items stay in ``_work/items``, so that a further curation reads only what is new or
            changed; the price is the media bytes once more (figure ``kept_bytes``).
    """

    video_forms: tuple[VideoForm, ...]
    text_tokens_min: int = 16
    jpeg_quality: int = 90
    stored_tokens_max: int = 20_480
    shard_bytes: int = 256 * 2**20
    rows_per_file: int = 100_000
    near_text_similarity: float = 0.8
    near_image_bits: int = 6
    heldout_share: float = 0.1
    loss_limit: float = 0.2
    item_time_limit_s: float = 600.0
    item_bytes_max: int = 64 * 2**30
    excluded_licences: tuple[str, ...] = ()
    pasted_per_screen: int = 0
    every_frame_max_s: float = 900.0
    documents: DocumentSpec = field(default_factory=DocumentSpec)
    quality: QualitySpec = field(default_factory=QualitySpec)
    captions: CaptionSpec | None = None
    item_memory_max: int = 4 * 2**30
    keep_items: bool = True

    def __post_init__(self) -> None:
        _require(bool(self.video_forms), "video_forms is empty: give at least one")
        spans = [form.max_s for form in self.video_forms]
        _require(spans == sorted(spans), f"video_forms must be ordered shortest first, got {spans} s")
        _require(self.text_tokens_min >= 1, f"text_tokens_min={self.text_tokens_min} must be at least 1")
        _require(1 <= self.jpeg_quality <= 95, f"jpeg_quality={self.jpeg_quality} must be between 1 and 95")
        _require(self.stored_tokens_max >= 1, f"stored_tokens_max={self.stored_tokens_max} must be at least 1")
        _require(self.shard_bytes >= 1, f"shard_bytes={self.shard_bytes} must be at least 1")
        _require(self.rows_per_file >= 1, f"rows_per_file={self.rows_per_file} must be at least 1")
        _require(0 < self.near_text_similarity <= 1, f"near_text_similarity={self.near_text_similarity} must be in (0, 1]")
        _require(0 <= self.near_image_bits <= 32, f"near_image_bits={self.near_image_bits} must be between 0 and 32")
        _require(0 <= self.heldout_share < 1, f"heldout_share={self.heldout_share} must be in [0, 1)")
        _require(0 <= self.loss_limit <= 1, f"loss_limit={self.loss_limit} must be in [0, 1]")
        _require(self.item_time_limit_s > 0, f"item_time_limit_s={self.item_time_limit_s} must be above 0")
        _require(self.item_bytes_max > 0, f"item_bytes_max={self.item_bytes_max} must be above 0")
        _require(self.item_memory_max >= 2**28, f"item_memory_max={self.item_memory_max} must be at least 256 MiB")
        _require(self.pasted_per_screen >= 0, f"pasted_per_screen={self.pasted_per_screen} must not be negative")
        _require(self.every_frame_max_s >= 0, f"every_frame_max_s={self.every_frame_max_s} must not be negative")
