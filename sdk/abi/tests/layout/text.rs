//! The layout of the border as text: all that abi_stable compares when a library is loaded, and no address.

use abi_stable::StableAbi;
use abi_stable::sabi_types::VersionNumber;
use abi_stable::std_types::UTypeId;
use abi_stable::type_layout::{
    LifetimeArrayOrSlice, TLData, TLEnum, TLField, TLFields, TLFunction, TLPrefixType, TLPrimitive, Tag,
    TypeLayout,
};
use lacuna_abi::{
    ABI_MAJOR, ABI_MINOR, ABI_PATCH, MAGIC, MAGIC_SYMBOL, PluginMagic, PluginModuleRef, ROOT_SYMBOL,
};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::mem::offset_of;

/// The line behind which a type may get more.
pub const GROWS: &str = "(may grow at its end)";

type Layout = &'static TypeLayout;

/// The handshake, and every type that is reached from the root module, by name.
pub fn border() -> String {
    let mut all = vec![];
    reach(PluginModuleRef::LAYOUT, &mut HashSet::new(), &mut all);
    let packages: BTreeSet<String> = all.iter().map(|layout| package(layout)).collect();
    let mut types: BTreeMap<String, String> = BTreeMap::new();
    for layout in all.into_iter().filter(|layout| !says_all_in_its_name(layout)) {
        let (name, text) = (format!("{}::{}", layout.package(), name(layout)), described(layout));
        let other = types.insert(name.clone(), text.clone());
        assert!(other.is_none_or(|other| other == text), "two types are written as `{name}`");
    }
    let types: String = types.into_iter().map(|(name, lines)| format!("\n{name}\n{lines}")).collect();
    let packages: String = packages.into_iter().map(|package| package + "\n").collect();
    format!("{}\n{packages}\n{}{types}", head(), handshake())
}

fn head() -> String {
    format!(
        "# The layout of border {ABI_MAJOR}.{ABI_MINOR}.{ABI_PATCH}, on a machine of 64 bits. docs/border.md says what may change: nothing\n\
         # but what a type gets behind `{GROWS}`, and new types that are reached through that.\n\
         # Written by `BLESS=1 cargo test -p lacuna-abi`.\n"
    )
}

fn reach(layout: Layout, seen: &mut HashSet<UTypeId>, all: &mut Vec<Layout>) {
    if !seen.insert(layout.get_utypeid()) {
        return;
    }
    all.push(layout);
    layout.shared_vars().type_layouts().iter().for_each(|next| reach(next(), seen, all));
    if let Some(checks) = layout.extra_checks() {
        checks.nested_type_layouts().iter().for_each(|next| reach(next, seen, all));
    }
}

fn says_all_in_its_name(layout: Layout) -> bool {
    matches!(layout.data(), TLData::Primitive(_)) || layout.name() == "PhantomData"
}

/// The package of a type, and as much of its version as has to be the same.
fn package(layout: Layout) -> String {
    let (package, version) = layout.package_and_version();
    let VersionNumber { major, minor, .. } = version.parsed().expect("a version");
    if major == 0 { format!("package {package} 0.{minor}") } else { format!("package {package} {major}") }
}

/// The part of it that never changes.
fn handshake() -> String {
    let mut lines =
        format!("handshake {MAGIC_SYMBOL}, root {ROOT_SYMBOL}\n    align {}\n", align_of::<PluginMagic>());
    macro_rules! fields {
        ($($field:ident: $type:ty),*) => {
            $(lines += &format!("    byte {}: {}, {}\n", offset_of!(PluginMagic, $field), stringify!($field), stringify!($type));)*
            // That the types are these.
            let _ = |magic: &PluginMagic| { $(let _: $type = magic.$field;)* };
        };
    }
    fields!(magic: [u8; 8], struct_size: u32, abi_major: u16, abi_minor: u16, abi_patch: u16, reserved: u16, flags: u32);
    format!("{lines}    magic {}\n    {GROWS}\n", MAGIC.escape_ascii())
}

/// What a type is called, with its parameters: two types have different names.
fn name(layout: Layout) -> String {
    let bare = layout.name();
    match (layout.package().as_str(), bare) {
        _ if matches!(layout.data(), TLData::Primitive(_)) => primitive(layout),
        // The methods of a trait, behind a pointer.
        ("lacuna-abi", "VTable") => {
            let path = layout.mod_path().to_string();
            let of = path.rsplit("::").next().unwrap_or_default().trim_end_matches("_trait").to_string();
            let behind: Vec<String> = marked(layout).into_iter().skip(1).map(name).collect();
            format!("{of} behind {}", behind.join(", "))
        }
        ("lacuna-abi", _) => layout.full_type().to_string(),
        _ => with_parameters(bare, &parameters(layout)),
    }
}

fn primitive(layout: Layout) -> String {
    let to = layout.phantom_fields().iter().next().map(|field| name(field.layout())).unwrap_or_default();
    match layout.data() {
        TLData::Primitive(TLPrimitive::SharedRef) => format!("&{to}"),
        TLData::Primitive(TLPrimitive::MutRef) => format!("&mut {to}"),
        TLData::Primitive(TLPrimitive::ConstPtr) => format!("*const {to}"),
        TLData::Primitive(TLPrimitive::MutPtr) => format!("*mut {to}"),
        _ => layout.full_type().to_string(),
    }
}

fn with_parameters(bare: &str, parameters: &[Layout]) -> String {
    let names: Vec<String> = parameters.iter().map(|layout| name(layout)).collect();
    if names.is_empty() { bare.into() } else { format!("{bare}<{}>", names.join(", ")) }
}

/// The parameters of a type of abi_stable or of std. It does not always say them: then they are taken from where the
/// type uses them.
fn parameters(layout: Layout) -> Vec<Layout> {
    let of = |fields: TLFields| -> Vec<Layout> { fields.iter().map(|field| field.layout()).collect() };
    let (fields, phantom) = (layout.get_fields().map(of).unwrap_or_default(), of(layout.phantom_fields()));
    let declared: Vec<Layout> = layout.generics().type_params().iter().map(|parameter| parameter()).collect();
    match layout.data() {
        TLData::Enum(_) => fields,
        _ if ["RObject", "MutWorkaround"].contains(&layout.name()) => fields.into_iter().take(1).collect(),
        _ if !phantom.is_empty() => phantom,
        _ if !declared.is_empty() => declared,
        _ => marked(layout),
    }
}

/// What a type's markers stand for.
fn marked(layout: Layout) -> Vec<Layout> {
    let fields = layout.get_fields().map(|fields| fields.to_vec()).unwrap_or_default();
    let markers = fields.iter().map(|field| field.layout()).filter(|layout| layout.name() == "PhantomData");
    markers.flat_map(|marker| marker.phantom_fields().to_vec()).map(|field| field.layout()).collect()
}

/// The lines of a type.
fn described(layout: Layout) -> String {
    let mut lines = vec![measures(layout)];
    lines.extend(
        layout
            .extra_checks()
            .map(|checks| checks.to_string().split_whitespace().collect::<Vec<_>>().join(" ")),
    );
    match layout.data() {
        TLData::Primitive(_) | TLData::Opaque => {}
        TLData::Struct { fields } | TLData::Union { fields } => {
            lines.extend(fields.iter().map(|f| field(&f)))
        }
        TLData::Enum(variants) => lines.extend(enumerated(&variants)),
        TLData::PrefixType(prefix) => lines.extend(prefixed(&prefix)),
    }
    lines.into_iter().map(|line| format!("    {line}\n")).collect()
}

/// What grows at its end has no size of its own.
fn measures(layout: Layout) -> String {
    let size = if layout.is_prefix_kind() { String::new() } else { format!("size {}, ", layout.size()) };
    let never_zero = if layout.is_nonzero() { ", never zero" } else { "" };
    let tag = if layout.tag() == Tag::NULL { String::new() } else { format!(", {}", layout.tag()) };
    format!(
        "{:?}, {size}align {}, {:?}{never_zero}{tag}",
        layout.data_discriminant(),
        layout.alignment(),
        layout.repr_attr()
    )
}

fn prefixed(prefix: &TLPrefixType) -> Vec<String> {
    let line = |(i, f): (usize, TLField)| {
        let accessible = prefix.accessible_fields.at(i).is_accessible();
        let conditional = prefix.conditional_prefix_fields.at(i).is_conditional();
        let notes = [(!accessible, " (not accessible)"), (conditional, " (conditional)")];
        let notes: String = notes.iter().filter(|(is, _)| *is).map(|(_, note)| *note).collect();
        field(&f) + &notes
    };
    let mut lines: Vec<String> = prefix.fields.iter().enumerate().map(line).collect();
    lines.insert(usize::from(prefix.first_suffix_field).min(lines.len()), GROWS.into());
    lines
}

fn enumerated(variants: &TLEnum) -> Vec<String> {
    let mut fields = variants.fields.iter();
    let exhaustive = if variants.exhaustiveness.is_exhaustive() { "exhaustive" } else { "not exhaustive" };
    let mut lines = vec![format!("{exhaustive}, discriminants {:?}", variants.discriminants)];
    for (variant, &count) in variants.variant_names_iter().zip(variants.field_count.as_slice()) {
        let of_variant: Vec<String> = fields.by_ref().take(count.into()).map(|f| field(&f)).collect();
        lines.push(if count == 0 { variant.into() } else { format!("{variant}({})", of_variant.join(", ")) });
    }
    lines
}

fn field(field: &TLField) -> String {
    let functions: Vec<String> = field.function_range().iter().map(|f| function(&f)).collect();
    let of = if field.is_function() { String::new() } else { name(field.layout()) };
    let within = if of.is_empty() || functions.is_empty() { "" } else { " of " };
    let lifetimes = lifetimes(field.lifetime_indices());
    format!("{}: {of}{within}{}{lifetimes}", field.name(), functions.join(", "))
}

fn function(function: &TLFunction) -> String {
    let unsafety = if function.fn_qualifs.is_unsafe() { "unsafe " } else { "" };
    let parameters: Vec<String> = function.param_type_layouts.iter().map(|layout| name(layout())).collect();
    let returned = function.return_type_layout().map_or("()".into(), |layout| name(layout()));
    let lifetimes = lifetimes(function.paramret_lifetime_indices);
    format!("{unsafety}fn({}) -> {returned}{lifetimes}", parameters.join(", "))
}

/// Which lifetimes a type borrows for, in the order in which it names them.
fn lifetimes(indices: LifetimeArrayOrSlice<'_>) -> String {
    let indices = indices.as_slice();
    if indices.is_empty() {
        return String::new();
    }
    let words = [("ANONYMOUS", "'_"), ("STATIC", "'static"), ("Param(0)", "'0"), (", NONE", "")];
    words.iter().fold(format!(" {indices:?}"), |text, (from, to)| text.replace(from, to))
}
