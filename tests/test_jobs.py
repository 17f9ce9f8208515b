"""The executors run the steps of a job as the CI systems' own runners do."""

import shutil
from dataclasses import replace

import pytest

from tests import pipelines, workflows
from tests.events import dispatch
from tests.steps import Machine


@pytest.fixture
def machine(tmp_path):
    """A runner whose repository is still empty, and whose folder has a tool."""
    (tmp_path / "tree/.github/workflows").mkdir(parents=True)
    (tmp_path / "work/bin").mkdir(parents=True)
    shutil.copy("/bin/true", tmp_path / "work/bin/tool")
    return Machine(tmp_path / "tree", tmp_path / "work")


def outcomes(job):
    return " ".join(step.outcome for step in job.steps)


WORKFLOW = """\
on: {workflow_dispatch: }
env: {LEVEL: workflow}
jobs:
  first:
    outputs: {names: "${{ steps.one.outputs.names }}"}
    env: {LEVEL: job}
    steps:
      - id: one
        env: {REF: "${{ github.ref }}", LEVEL: step}
        run: |
          echo 'names=["a", "b"]' >> "$GITHUB_OUTPUT"
          echo "GIVEN=later" >> "$GITHUB_ENV"
          echo "$PWD/bin" >> "$GITHUB_PATH"
          echo "summary" >> "$GITHUB_STEP_SUMMARY"
          echo "$LEVEL ${{ env.LEVEL }} $REF ${GIVEN:-nothing}"
      - run: tool && echo "$LEVEL ${REF:-none} $GIVEN" && cat "$GITHUB_STEP_SUMMARY"
      - {uses: $/.github/actions/ask, with: {who: world}, env: {SAID: hi}}
      - {id: got, uses: a/fetch@v1, with: {name: file}}
      - run: echo "$FROM ${{ steps.got.outputs.path }}"
  each:
    needs: first
    if: needs.first.outputs.names != '[]'
    strategy: {matrix: {name: "${{ fromJSON(needs.first.outputs.names) }}"}}
    environment: ${{ matrix.name }}
    steps:
      - {run: exit 1, continue-on-error: true}
      - run: false | true
      - {id: gate, run: '[[ ${{ matrix.name }} = a ]] | cat', shell: bash}
      - run: echo never
      - if: ${{ !cancelled() && steps.gate.outcome != 'skipped' }}
        run: echo anyway
      - {if: '!cancelled() && steps.gate.outcome == ''success''', run: echo not this}
      - {if: github.ref == 'refs/heads/main', run: echo nor this}
  after:
    needs: [each]
    steps: [{run: echo never}]
"""
ACTION = """\
inputs: {who: {default: nobody}, more: {default: "yes"}}
runs:
  using: composite
  steps:
    - {if: "inputs.who == 'nobody' || inputs.more != 'yes'", shell: bash, run: exit 1}
    - {shell: bash, run: 'echo "FROM=${{ inputs.who }} $SAID" >> "$GITHUB_ENV"'}
"""


def test_a_workflow_runs_as_github_runs_it(machine):
    (machine.tree / ".github/actions/ask").mkdir(parents=True)
    (machine.tree / ".github/actions/ask/action.yml").write_text(ACTION)
    (machine.tree / ".github/workflows/w.yml").write_text(WORKFLOW)
    with pytest.raises(KeyError, match="a/fetch"):
        workflows.run(machine, "w.yml", dispatch())
    stand_ins = {"a/fetch": lambda call: {"path": f"the {call.inputs['name']}"}}
    done = workflows.run(replace(machine, stand_ins=stand_ins), "w.yml", dispatch())
    (first,), each, (after,) = done.values()
    assert [first.steps[number].out for number in (0, 1, 4)] == [
        "step step refs/heads/main nothing\n",
        "job none later\nsummary\n",
        "world hi the file\n",
    ]
    assert [(job.environment, job.result) for job in each] == [("a", "success"), ("b", "failure")]
    assert outcomes(each[0]) == "failure success success success success success success"
    assert outcomes(each[1]) == "failure success failure skipped success skipped skipped"
    assert (after.result, after.steps) == ("skipped", ())


PIPELINE = """\
trigger: {branches: {include: [main]}}
parameters: [{name: loud, type: boolean, default: "false"}]
variables: [{name: connection, value: ""}]
stages:
  - stage: One
    dependsOn: []
    condition: eq(variables['Build.Reason'], 'IndividualCI')
    jobs:
      - job: one
        steps:
          - {template: steps.yml, parameters: {more: "true"}}
          - script: echo "##vso[task.setvariable variable=begun;isOutput=true]yes"; exit 1
            name: gate
          - script: echo never
          - script: tool && echo "$(gate.begun) $(mine) $MINE $(echo shell) $TOKEN"
            condition: and(succeededOrFailed(), eq(variables['gate.begun'], 'yes'))
            env: {TOKEN: $(System.AccessToken)}
          - ${{ if parameters.loud }}: [{script: echo loud}]
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
  - ${{ if ne(variables.connection, '') }}: [{script: exit 1}]
"""


def test_the_pipeline_runs_as_azure_runs_it(machine):
    (machine.tree / "azure-pipelines.yml").write_text(PIPELINE)
    (machine.tree / "steps.yml").write_text(TEMPLATE)
    done = pipelines.run(machine, pipelines.branch("IndividualCI"), {"loud": True})
    (one,), (two,), (three,) = done.values()
    assert outcomes(one) == "success failure skipped success skipped"
    assert one.steps[3].out == f"yes given given shell {pipelines.TOKEN}\n"
    assert (two.result, two.environment, three.result) == ("success", "staging", "skipped")
    assert pipelines.run(machine, pipelines.branch("IndividualCI", "other")) == {}
