"""The executors run the steps of a job as the CI systems' own runners do."""

import shutil
import signal
import textwrap
import time

import pytest

from tests import pipelines, workflows
from tests.events import dispatch, pull_request, push
from tests.steps import CallFailed, Machine


@pytest.fixture
def machine(tmp_path):
    """A runner whose repository is still empty."""
    (tmp_path / "tree/.github/workflows").mkdir(parents=True)
    (tmp_path / "work").mkdir()
    return Machine(tmp_path / "tree", tmp_path / "work", temp=tmp_path)


@pytest.fixture
def github(machine):
    """Runs a workflow of these jobs, and gives how each job ended."""

    def run(jobs, event=None, on="{workflow_dispatch: }", **machine_has):
        text = f"on: {on}\nenv: {{LEVEL: workflow}}\njobs:\n{textwrap.indent(jobs, '  ')}"
        (machine.tree / ".github/workflows/w.yml").write_text(text)
        here = Machine(**{**vars(machine), **machine_has})
        return workflows.run(here, "w.yml", event or dispatch())

    return run


def steps(text, more=""):
    head = f"job:\n  runs-on: x\n{textwrap.indent(more, '  ')}"
    return f"{head}  steps:\n{textwrap.indent(text, '    ')}"


def test_outputs_environment_and_path_reach_the_later_steps(github, machine):
    (machine.folder / "bin").mkdir()
    (machine.folder / "bin/tool").write_text("#!/bin/bash\necho tool runs\n")
    (machine.folder / "bin/tool").chmod(0o755)
    done = github(
        steps("""\
- id: one
  run: |
    echo "plain=a=b" >> "$GITHUB_OUTPUT"
    printf 'long<<END\\nfirst\\nsecond\\nEND\\n' >> "$GITHUB_OUTPUT"
    echo "GIVEN=later" >> "$GITHUB_ENV"
    echo "$PWD/bin" >> "$GITHUB_PATH"
    echo "summary" >> "$GITHUB_STEP_SUMMARY"
    echo "now: ${GIVEN:-nothing}"
- run: echo "$GIVEN ${{ steps.one.outputs.plain }} ${{ steps.one.outputs.long }}"; tool
""")
    )
    first, second = done["job"][0].steps
    assert first.out == "now: nothing\n"
    assert second.out == "later a=b first\nsecond\ntool runs\n"
    assert (machine.temp / "summary.md").read_text() == "summary\n"


def test_the_nearest_env_counts_and_a_step_sees_its_own(github):
    done = github(
        steps(
            """\
- run: echo "$LEVEL ${{ env.LEVEL }} $REF $GITHUB_REPOSITORY"
  env: {REF: "${{ github.ref }}", LEVEL: step}
- run: echo "$LEVEL ${REF:-none}"
""",
            "env: {LEVEL: job}\n",
        )
    )
    assert done["job"][0].out == "step step refs/heads/main acme/flights\njob none\n"


def test_after_a_failure_only_those_run_that_ask_for_it(github):
    done = github(
        steps("""\
- id: gate
  run: exit 3
- run: echo never
- if: ${{ !cancelled() && steps.gate.outcome != 'skipped' }}
  run: echo anyway
- if: failure()
  run: echo failed
- if: always() && steps.gate.outcome == 'success'
  run: echo not this
- if: github.ref == 'refs/heads/main'
  run: echo nor this
""")
    )["job"][0]
    assert done.result == "failure"
    assert [step.outcome for step in done.steps] == [
        "failure", "skipped", "success", "success", "skipped", "skipped",
    ]  # fmt: skip
    assert done.steps[0].code == 3


def test_a_failure_that_is_forgiven_fails_no_job(github):
    done = github(
        steps("""\
- id: gone
  continue-on-error: true
  run: exit 1
- run: echo "${{ steps.gone.outcome }} ${{ steps.gone.conclusion }}"
""")
    )["job"][0]
    assert (done.result, done.out) == ("success", "failure success\n")


def test_a_pipe_that_breaks_fails_under_a_named_shell_only(github):
    broken = "- run: false | true\n"
    assert github(steps(broken))["job"][0].result == "success"
    assert github(steps(f"{broken}  shell: bash\n"))["job"][0].result == "failure"


def test_a_job_gives_its_outputs_to_a_matrix_and_waits_for_what_it_needs(github):
    jobs = """\
first:
  runs-on: x
  outputs: {names: "${{ steps.list.outputs.names }}"}
  steps:
    - {id: list, run: 'echo "names=[\\"a\\", \\"b\\"]" >> "$GITHUB_OUTPUT"'}
each:
  needs: first
  if: needs.first.outputs.names != '[]'
  strategy: {matrix: {name: "${{ fromJSON(needs.first.outputs.names) }}"}}
  runs-on: x
  environment: ${{ matrix.name }}
  steps: [{run: 'test "${{ matrix.name }}" = a'}]
after:
  needs: [each]
  runs-on: x
  steps: [{run: echo never}]
tell:
  needs: [each]
  if: failure()
  runs-on: x
  steps: [{run: 'echo "${{ needs.each.result }}"'}]
"""
    done = github(jobs)
    assert [job.environment for job in done["each"]] == ["a", "b"]
    assert [job.result for job in done["each"]] == ["success", "failure"]
    assert done["after"][0].result == "skipped"
    assert done["tell"][0].out == "failure\n"


def test_a_job_whose_condition_does_not_hold_is_skipped_whole(github):
    done = github(steps("- run: echo never\n", "if: github.event_name == 'push'\n"))["job"]
    assert [(job.result, job.steps) for job in done] == [("skipped", ())]


@pytest.mark.parametrize(
    ("on", "event", "runs"),
    [
        ("{push: {branches: [main], paths: [environments/*.yaml]}}", ("a",), False),
        (
            "{push: {branches: [main], paths: [environments/*.yaml]}}",
            ("environments/x.yaml",),
            True,
        ),
        ("{push: {paths: [environments/*.yaml]}}", ("environments/deep/x.yaml",), False),
        ("{push: {branches: [release]}}", (), False),
        ("{pull_request: }", (), False),
    ],
)
def test_an_event_starts_the_workflows_that_ask_for_it(github, on, event, runs):
    done = github(steps("- run: echo here\n"), push("before", changed=event), on)
    assert bool(done) is runs


def test_a_pull_request_is_asked_for_by_the_branch_that_it_is_against(github):
    hello = steps("- run: echo $GITHUB_HEAD_REF against $GITHUB_BASE_REF\n")
    done = github(hello, pull_request(7, "mine"), "{pull_request: {branches: [main]}}")
    assert done["job"][0].out == "mine against main\n"


COMPOSITE = """\
inputs: {who: {default: nobody}, said: {default: ""}}
outputs: {answer: {value: "${{ steps.ask.outputs.answer }}"}}
runs:
  using: composite
  steps:
    - {id: ask, shell: bash, run: 'echo "answer=${{ inputs.who }} $SAID" >> "$GITHUB_OUTPUT"'}
    - {if: "inputs.who == 'nobody'", shell: bash, run: exit 1}
    - {shell: bash, run: 'echo "FROM=inside" >> "$GITHUB_ENV"'}
"""


def test_an_action_of_the_repository_runs_its_own_steps(github, machine):
    place = machine.tree / ".github/actions/ask"
    place.mkdir(parents=True)
    (place / "action.yml").write_text(COMPOSITE)
    use = "- id: call\n  uses: $/.github/actions/ask\n"
    told = f"{use}  with: {{who: world}}\n  env: {{SAID: hi}}\n"
    tell = "- run: echo ${{ steps.call.outputs.answer }} $FROM\n"
    assert github(steps(told + tell))["job"][0].out == "world hi inside\n"
    assert [step.outcome for step in github(steps(use + tell))["job"][0].steps] == [
        "failure",
        "skipped",
    ]


def test_an_action_of_the_repository_may_be_replaced(github):
    calls = []
    stand_ins = {"$/.github/actions/ask": calls.append}
    done = github(steps("- uses: $/.github/actions/ask\n"), stand_ins=stand_ins)
    assert done["job"][0].result == "success"
    assert [call.name for call in calls] == ["$/.github/actions/ask"]


def test_a_stand_in_is_given_the_inputs_gives_outputs_and_may_fail(github):
    def fetch(call):
        if call.inputs["name"] == "gone":
            raise CallFailed("not found")
        return {"path": f"{call.inputs['name']}-{call.env['LEVEL']}"}

    tell = "- run: echo ${{ steps.got.outputs.path }}\n"
    text = f"- {{id: got, uses: a/fetch@v1, with: {{name: NAME}}}}\n{tell}"
    here = {"a/fetch": fetch}
    assert github(steps(text), stand_ins=here)["job"][0].out == "NAME-workflow\n"
    failed = github(steps(text.replace("NAME", "gone")), stand_ins=here)["job"][0]
    assert (failed.result, failed.out) == ("failure", "not found\n")


def test_an_action_without_a_stand_in_is_not_passed_over(github):
    with pytest.raises(KeyError, match="a/unknown"):
        github(steps("- uses: a/unknown@v1\n"))


def test_a_digest_is_of_the_files_that_match(github, machine):
    (machine.folder / "deep/er").mkdir(parents=True)
    (machine.folder / "deep/er/file").write_text("a")
    text = "- run: echo ${{ hashFiles('deep/**') }}/${{ hashFiles('no/**') }}\n"
    before = github(steps(text))["job"][0].out
    (machine.folder / "deep/er/file").write_text("b")
    after = github(steps(text))["job"][0].out
    assert len(before) == 66
    assert before.endswith("/\n")
    assert before != after


def test_a_step_that_is_killed_fails_its_job_and_leaves_no_process(github, machine):
    def kill(command, process):
        while not (machine.folder / "child").exists():
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)

    script = "sleep 60 & echo $! > pid; mv pid child; wait"
    done = github(steps(f"- run: {script}\n"), watch=kill)["job"][0]
    assert (done.result, done.steps[0].code) == ("failure", -signal.SIGKILL)
    child = int((machine.folder / "child").read_text())
    deadline = time.monotonic() + 10
    while is_alive(child):
        assert time.monotonic() < deadline


def test_a_runner_that_is_lost_ends_at_once_and_leaves_no_process(github, machine):
    class Lost(Exception):
        pass

    def lose(command, process):
        raise Lost

    with pytest.raises(Lost):
        github(steps("- run: sleep 60\n"), watch=lose)


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_artifacts_go_from_one_run_to_another(github, machine, tmp_path):
    (machine.folder / "verdict").mkdir()
    (machine.folder / "verdict/report.md").write_text("accepted")
    kept = workflows.Artifacts(tmp_path / "kept")
    here = {"a/up": kept.upload, "a/down": kept.download}
    text = """\
- {uses: a/up@v1, with: {name: verdict, path: "verdict/\\nreports/none.html"}}
- {uses: a/down@v1, with: {name: verdict, path: "${{ runner.temp }}/judged"}}
- run: cat "$RUNNER_TEMP/judged/verdict/report.md"
- {uses: a/down@v1, with: {name: other, path: x}}
"""
    done = github(steps(text), stand_ins=here)["job"][0]
    assert done.steps[2].out == "accepted"
    assert done.steps[3].outcome == "failure"


PIPELINE = """\
trigger: {branches: {include: [main]}}
schedules: [{cron: "0 0 * * *", branches: {include: [main]}}]
parameters: [{name: loud, type: boolean, default: "false"}]
variables: [{name: connection, value: ""}]
stages:
  - stage: One
    dependsOn: []
    condition: eq(variables['Build.Reason'], 'IndividualCI')
    jobs:
      - job: one
        steps:
          - template: steps.yml
            parameters: {more: "true"}
          - script: |
              echo "##vso[task.setvariable variable=begun;isOutput=true]yes"
              exit 1
            name: gate
          - script: echo never
          - script: tool && echo "$(gate.begun) $(mine) $MINE $(echo shell) $TOKEN"
            condition: and(succeededOrFailed(), eq(variables['gate.begun'], 'yes'))
            env: {TOKEN: $(System.AccessToken)}
          - ${{ if parameters.loud }}:
              - script: echo loud
                condition: always()
  - stage: Two
    dependsOn: [One]
    condition: and(not(canceled()), contains(dependencies.One.outputs['one.gate.begun'], 'YES'))
    jobs:
      - deployment: two
        environment: staging
        strategy: {runOnce: {deploy: {steps: [{script: "false\\ntrue"}, {publish: here}]}}}
  - stage: Three
    dependsOn: [One]
    condition: succeeded()
    jobs: [{job: three, steps: [{script: echo never}]}]
"""
TEMPLATE = """\
parameters: [{name: more, type: boolean, default: "false"}]
steps:
  - ${{ if parameters.more }}:
      - script: |
          echo "##vso[task.setvariable variable=mine]given"
          echo "##vso[task.prependpath]$PWD/bin"
  - ${{ if ne(variables.connection, '') }}:
      - script: exit 1
"""


def test_the_pipeline_runs_as_azure_runs_it(machine):
    (machine.tree / "azure-pipelines.yml").write_text(PIPELINE)
    (machine.tree / "steps.yml").write_text(TEMPLATE)
    (machine.folder / "bin").mkdir()
    shutil.copy("/bin/true", machine.folder / "bin/tool")
    done = pipelines.run(machine, pipelines.branch("IndividualCI"), {"loud": True})
    one, two = done["One"][0], done["Two"][0]
    assert [step.outcome for step in one.steps] == [
        "success", "failure", "skipped", "success", "success",
    ]  # fmt: skip
    assert one.steps[3].out == f"yes given given shell {pipelines.TOKEN}\n"
    assert (two.result, two.environment) == ("success", "staging")
    assert done["Three"][0].result == "skipped"
    assert pipelines.run(machine, pipelines.branch("IndividualCI", "other")) == {}
