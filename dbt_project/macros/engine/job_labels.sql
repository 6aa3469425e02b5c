{# What a job is for, as JSON: which environment and run, and which model or test if it is of one. #}
{% macro job_labels(node) %}
    {%- set labels = {'dataops_environment': target.name, 'dataops_step': 'dbt'} -%}
    {%- if env_var('DATAOPS_DBT_RUN', '') -%}
        {%- do labels.update({'dataops_run': env_var('DATAOPS_DBT_RUN')}) -%}
    {%- endif -%}
    {%- if node and node.resource_type == 'test' -%}
        {%- set tested = node.attached_node or (node.depends_on.nodes | first) -%}
        {%- do labels.update({'dataops_model': tested.split('.')[-1], 'dataops_test': node.name}) -%}
    {%- elif node -%}
        {%- do labels.update({'dataops_model': node.name}) -%}
    {%- endif -%}
    {{- tojson(labels) -}}
{% endmacro %}
