{# The column a node is partitioned by (its config.meta.dataops.partition_field), or none. #}
{% macro partition_field(node) %}
    {%- do return(node.get('config', {}).get('meta', {}).get('dataops', {}).get('partition_field')) -%}
{% endmacro %}
