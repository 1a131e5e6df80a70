"""The promises of argocd/, from what it renders to."""

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ["staging", "prod"]
PLACES = "argocd.argoproj.io/manifest-generate-paths"
RETRY = {"limit": 5, "refresh": True, "backoff": {"duration": "5s", "factor": 2, "maxDuration": "1m"}}


@pytest.fixture
def argocd(rendered):
    return rendered("argocd")


@pytest.fixture(params=ENVIRONMENTS)
def environment(request):
    return request.param


@pytest.fixture
def template(argocd, environment):
    return argocd.one("ApplicationSet", environment)["spec"]["template"]


def _used(folder):
    """Return a kustomization's folder and all that it draws in."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    found = {folder}
    for entry in [*kustomization.get("resources", []), *kustomization.get("components", [])]:
        if (folder / entry).is_dir():
            found |= _used((folder / entry).resolve())
    return found


def _watched(annotation, path):
    """Return the folders that an annotation of manifest-generate-paths names."""
    return [
        (ROOT / each[1:] if each[0] == "/" else ROOT / path / each).resolve()
        for each in annotation.split(";")
    ]


def test_these_objects_and_no_others(argocd):
    assert sorted((each["kind"], each["metadata"]["name"]) for each in argocd.objects) == [
        ("AppProject", "forest"),
        ("AppProject", "forest-prod"),
        ("AppProject", "forest-staging"),
        ("AppProject", "mlflow"),
        ("AppProject", "monitoring"),
        ("Application", "forest"),
        ("Application", "mlflow"),
        ("Application", "monitoring"),
        ("Application", "prod-namespaces"),
        ("Application", "staging-namespaces"),
        ("ApplicationSet", "prod"),
        ("ApplicationSet", "staging"),
    ]
    assert {each["metadata"]["namespace"] for each in argocd.objects} == {"argocd"}


def test_the_repository_is_said_in_one_place(argocd):
    file = ROOT / "argocd" / "repository.yaml"
    repository = yaml.safe_load(file.read_text())["data"]
    for other in [*ROOT.glob("argocd/**/*.yaml"), *ROOT.glob("kustomize/**/*.yaml")]:
        assert other == file or repository["url"] not in other.read_text()
    assert "REPOSITORY" not in argocd.text
    assert "REVISION" not in argocd.text
    for project in argocd.of("AppProject"):
        assert project["spec"]["sourceRepos"] == [repository["url"]]
    sources = [each["spec"]["source"] for each in argocd.of("Application")]
    for each in argocd.of("ApplicationSet"):
        (generator,) = each["spec"]["generators"]
        assert (generator["git"]["repoURL"], generator["git"]["revision"]) == tuple(repository.values())
        sources.append(each["spec"]["template"]["spec"]["source"])
    assert len(sources) == 7
    for source in sources:
        assert (source["repoURL"], source["targetRevision"]) == tuple(repository.values())


def test_the_root_keeps_this_folder_and_ends_no_environment(argocd):
    root = argocd.one("Application", "forest")["spec"]
    assert root["source"]["path"] == "argocd"
    assert root["syncPolicy"]["automated"] == {"prune": False, "selfHeal": True}
    project = argocd.one("AppProject", root["project"])["spec"]
    assert {each["kind"] for each in project["namespaceResourceWhitelist"]} == {
        each["kind"] for each in argocd.objects
    }
    assert "clusterResourceWhitelist" not in project, "absent, it allows nothing"
    assert project["destinations"] == [root["destination"]]


def test_a_project_allows_what_is_there_and_nothing_else(argocd, rendered, environment):
    project = argocd.one("AppProject", "forest-" + environment)["spec"]
    allowed = [*project["clusterResourceWhitelist"], *project["namespaceResourceWhitelist"]]
    assert project["clusterResourceWhitelist"] == [{"group": "", "kind": "Namespace"}]
    objects = list(rendered(f"kustomize/overlays/{environment}").objects)
    for file in ROOT.glob("kustomize/components/*/*.yaml"):
        each = yaml.safe_load(file.read_text())
        if "kind" in each and each["kind"] != "Component":
            objects.append(each)
    there = {(each["apiVersion"].rpartition("/")[0], each["kind"]) for each in objects}
    # And what these make: of kinds that a project does not allow, Argo CD shows nothing at all.
    made = {("apps", "ReplicaSet"), ("batch", "Job"), ("", "Pod")}
    assert made.isdisjoint(there)
    assert {(each["group"], each["kind"]) for each in allowed} == there | made
    assert ("", "Secret") not in there


def test_applications_stay_in_their_project(argocd, environment, template):
    project = argocd.one("AppProject", "forest-" + environment)["spec"]
    for spec in (template["spec"], argocd.one("Application", environment + "-namespaces")["spec"]):
        assert spec["project"] == "forest-" + environment, "by hand, never from a path"
        assert project["destinations"] == [spec["destination"]]
        assert spec["destination"]["namespace"] == "forest-" + environment


def test_a_set_makes_one_application_per_model(argocd, overlays, environment, template):
    spec = argocd.one("ApplicationSet", environment)["spec"]
    assert (spec["goTemplate"], spec["goTemplateOptions"]) == (True, ["missingkey=error"])
    assert spec["syncPolicy"] == {"applicationsSync": "create-update", "preserveResourcesOnDeletion": True}
    (directory,) = spec["generators"][0]["git"]["directories"]
    folders = {each.relative_to(ROOT) for each in ROOT.glob(directory["path"]) if each.is_dir()}
    assert folders == {each.folder(Path()) for each in overlays if each.environment == environment}
    assert template["metadata"]["name"] == environment + "-{{.path.basename}}"
    assert template["spec"]["source"]["path"] == "{{.path.path}}"
    assert "finalizers" not in template["metadata"], "an Application that goes leaves its pods"


def test_staging_syncs_by_itself_and_prod_waits(argocd):
    policy = {
        each["metadata"]["name"]: each["spec"]["template"]["spec"]["syncPolicy"]
        for each in argocd.of("ApplicationSet")
    }
    assert policy["staging"].pop("automated") == {"prune": True, "selfHeal": True}
    assert policy["staging"] == policy["prod"]
    assert policy["prod"] == {"syncOptions": ["PruneLast=true", "FailOnSharedResource=true"], "retry": RETRY}
    namespaces = {
        name: argocd.one("Application", name + "-namespaces")["spec"]["syncPolicy"] for name in ENVIRONMENTS
    }
    assert namespaces["staging"].pop("automated") == {"prune": False, "selfHeal": True}
    assert namespaces["staging"] == namespaces["prod"]
    assert namespaces["prod"] == {"syncOptions": ["FailOnSharedResource=true"], "retry": RETRY}


def test_no_difference_is_ignored(argocd):
    assert "ignoreDifferences" not in argocd.text, (
        "nothing in Git is another's to change: there are no replicas"
    )


def test_a_commit_wakes_those_whom_it_concerns_and_no_others(argocd, overlays, environment, template):
    for each in overlays:
        if each.environment != environment:
            continue
        path = each.folder(Path())
        annotation = template["metadata"]["annotations"][PLACES].replace("{{.path.basename}}", each.model)
        watched = _watched(annotation, path)
        for used in _used(ROOT / path):
            assert any(used.is_relative_to(place) for place in watched), f"{used} is not watched"
        assert all(place.is_dir() for place in watched)
        foreign = [other.folder() for other in overlays if other != each]
        assert not [place for place in watched for other in foreign if other.is_relative_to(place)]
    application = argocd.one("Application", environment + "-namespaces")
    path = application["spec"]["source"]["path"]
    watched = _watched(application["metadata"]["annotations"][PLACES], path)
    for used in _used(ROOT / path):
        assert any(used.is_relative_to(place) for place in watched)


def test_mlflow_waits_for_sync_in_a_project_of_its_own(argocd, rendered):
    mlflow = rendered("kustomize/apps/mlflow")
    application = argocd.one("Application", "mlflow")
    project = argocd.one("AppProject", "mlflow")["spec"]
    spec = application["spec"]
    assert spec["project"] == "mlflow"
    assert spec["syncPolicy"] == {"syncOptions": ["FailOnSharedResource=true"], "retry": RETRY}
    assert project["destinations"] == [spec["destination"]]
    allowed = [*project["clusterResourceWhitelist"], *project["namespaceResourceWhitelist"]]
    there = {(each["apiVersion"].rpartition("/")[0], each["kind"]) for each in mlflow.objects}
    assert {(each["group"], each["kind"]) for each in allowed} == there | {
        ("apps", "ReplicaSet"),
        ("", "Pod"),
    }
    path = spec["source"]["path"]
    watched = _watched(application["metadata"]["annotations"][PLACES], path)
    for used in _used(ROOT / path):
        assert any(used.is_relative_to(place) for place in watched)


def test_monitoring_waits_for_sync_in_a_project_of_its_own(argocd, rendered):
    application = argocd.one("Application", "monitoring")
    project = argocd.one("AppProject", "monitoring")["spec"]
    spec = application["spec"]
    assert spec["project"] == "monitoring"
    assert spec["syncPolicy"] == {"syncOptions": ["FailOnSharedResource=true"], "retry": RETRY}
    assert project["destinations"] == [spec["destination"]]
    objects = rendered(spec["source"]["path"]).objects
    there = {(each["apiVersion"].rpartition("/")[0], each["kind"]) for each in objects}
    assert {(each["group"], each["kind"]) for each in project["namespaceResourceWhitelist"]} == there
    assert "clusterResourceWhitelist" not in project
    watched = _watched(application["metadata"]["annotations"][PLACES], spec["source"]["path"])
    assert watched == [ROOT / spec["source"]["path"]]


def test_a_release_leaves_the_root_alone(argocd):
    root = argocd.one("Application", "forest")
    (place,) = _watched(root["metadata"]["annotations"][PLACES], root["spec"]["source"]["path"])
    assert place == ROOT / "argocd"
    assert all(used.is_relative_to(place) for used in _used(place))


def test_no_sync_window_keeps_a_person_from_rolling_back(argocd):
    document = (ROOT / "docs" / "deployment.md").read_text()
    example = yaml.safe_load(document.partition("## Sync windows")[2].split("```")[1].removeprefix("yaml"))
    assert example["spec"]["syncWindows"]
    for project in [example, *argocd.of("AppProject")]:
        for window in project["spec"].get("syncWindows", []):
            assert window["manualSync"] is True
